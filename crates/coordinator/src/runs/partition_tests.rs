use std::{
    io::{Read, Write},
    time::Duration,
};

use broker::{Options, Outgoing, Publisher, Reader, task};
use embedded::Server;
use protocol::{
    Namespace,
    run::StoredFact,
    topology::{Names, Settings, run_consumer, run_pace},
};

use super::*;

const BOUND: Duration = Duration::from_secs(30);

/// A broker with one run's first fact, and the partition that it lies in.
struct Site {
    server: Server,
    connection: Connection,
    partition: u8,
}

/// A coordinator's part in that partition, over a connection of its own.
struct Member {
    post: Arc<Post>,
    told: mpsc::UnboundedReceiver<Told>,
    unreadable: mpsc::Receiver<Delivery>,
    connection: Connection,
    _task: task::Owned<()>,
}

impl Site {
    async fn start() -> Self {
        let server = Server::start(embedded::Config::default()).await.unwrap();
        let connection = open(&server).await;
        let namespace = Namespace::default();
        topology::apply(&connection, &namespace, &Settings::default()).await.unwrap();
        let site = Self { server, connection, partition: 0 };
        site.publish().await;
        let names = Names::of(&namespace);
        let found = Reader::new(&site.connection).by_sequence(&names.runs, 1).await.unwrap().unwrap();
        let partition = StoredFact::parse(&namespace, &found.subject).unwrap().partition;
        Self { partition, ..site }
    }

    async fn publish(&self) {
        let outgoing = Outgoing::new("fleet.run.order-1.signal.tick", "1");
        Publisher::new(&self.connection).publish_within(&outgoing, BOUND).await.unwrap();
    }

    fn consumer(&self) -> Consumer {
        run_consumer(&Namespace::default(), self.partition)
    }

    /// Waits until the broker has heard of every acknowledgement: they do not come over the connection of the pulls.
    async fn is_acknowledged(&self) {
        let consumer = self.consumer();
        let waiting = async {
            while topology::consumer_state(&self.connection, &consumer.stream, &consumer.name)
                .await
                .unwrap()
                .ack_pending
                > 0
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(BOUND, waiting).await.unwrap();
    }

    async fn member(&self) -> Member {
        let connection = open(&self.server).await;
        let post = Post::new(&run_pace(), Instant::now());
        let (sender, told) = mpsc::unbounded_channel();
        let (reader, (found, unreadable)) = (Reader::apart(&connection), mpsc::channel(10));
        let (consumer, shared) = (self.consumer(), Arc::clone(&post));
        let partition =
            Partition::new(&SideConnection::new(&connection), &reader, consumer, run_pace(), shared, sender, found);
        let _task = task::spawn("partition", partition.keep(CancellationToken::new()));
        Member { post, told, unreadable, connection, _task }
    }

    /// Publishes a block of headers as it is.
    fn plant(&self, block: &[u8]) {
        let mut stream = std::net::TcpStream::connect(self.server.url().trim_start_matches("nats://")).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        let mut message = b"CONNECT {\"verbose\":false,\"headers\":true}\r\n".to_vec();
        message.extend(format!("HPUB fleet.run.order-1.signal.tick {0} {0}\r\n", block.len()).bytes());
        message.extend(block.iter().chain(b"\r\nPING\r\n"));
        stream.write_all(&message).unwrap();
        let mut answers = String::new();
        let mut some = [0; 4_096];
        while !answers.contains("PONG") {
            let count = stream.read(&mut some).unwrap();
            answers += &String::from_utf8_lossy(&some[..count]);
            assert!(count > 0 && !answers.contains("-ERR"), "{answers}");
        }
    }
}

impl Member {
    /// The next event, acknowledged.
    async fn take(&mut self) -> (Term, u64) {
        loop {
            if let Told::Event(term, delivery) = tokio::time::timeout(BOUND, self.told.recv()).await.unwrap().unwrap() {
                self.post.hand.ack(&self.connection, &[Arc::clone(&delivery)]).await;
                return (term, delivery.sequence);
            }
        }
    }
}

async fn open(server: &Server) -> Connection {
    Connection::open(Options { servers: vec![server.url()], ..Options::default() }).await.unwrap()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(BOUND, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn one_of_two_is_given_everything_and_the_other_when_that_one_goes() {
    let site = Site::start().await;
    let mut first = site.member().await;
    assert_eq!(first.take().await.1, 1);
    let mut second = site.member().await;
    for sequence in 2..20 {
        site.publish().await;
        assert_eq!(first.take().await.1, sequence);
    }
    // It goes with one event in its hands.
    site.publish().await;
    until("it is in hand", || first.post.hand.has(20)).await;
    assert!(second.told.try_recv().is_err());
    drop(first);
    let began = Instant::now();
    let (term, sequence) = second.take().await;
    assert!(term.lasts() && sequence == 20);
    println!("taken over within {:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_in_hand_stays_there_however_long_it_takes() {
    let site = Site::start().await;
    let mut member = site.member().await;
    let Some(Told::Event(term, delivery)) = member.told.recv().await else { panic!("no event") };
    let long = run_pace().ack_wait * 2;
    tokio::time::sleep(long).await;
    let state = topology::consumer_state(&site.connection, delivery.stream(), delivery.consumer()).await.unwrap();
    assert_eq!((state.deliveries, state.redelivered, state.ack_pending), (1, 0, 1));
    assert!(term.lasts(), "a term lasts while nothing happens");
    member.post.hand.ack(&member.connection, &[delivery]).await;
    assert_eq!(member.post.hand.load(), (0, 0));
}

#[tokio::test]
async fn a_fence_falls_when_the_broker_is_silent_and_another_term_begins_when_it_speaks() {
    let mut site = Site::start().await;
    let mut member = site.member().await;
    let (term, _) = member.take().await;
    site.is_acknowledged().await;
    site.server.pause().unwrap();
    let began = Instant::now();
    until("the fence falls", || !term.lasts()).await;
    assert!(began.elapsed() <= run_pace().priority_timeout + Duration::from_millis(500), "{:?}", began.elapsed());
    site.server.resume().unwrap();
    site.publish().await;
    let (again, sequence) = member.take().await;
    assert!(again.lasts() && !term.lasts());
    assert_eq!((sequence, again.number()), (2, term.number() + 1));
}

#[tokio::test]
async fn who_steps_back_leaves_the_partition_to_another() {
    let site = Site::start().await;
    let mut first = site.member().await;
    let (term, _) = first.take().await;
    let mut second = site.member().await;
    let both_wait = async {
        let (stream, name) = (site.consumer().stream, site.consumer().name);
        // One alone has two pulls open, and for a moment three.
        while topology::consumer_state(&site.connection, &stream, &name).await.unwrap().waiting < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(BOUND, both_wait).await.unwrap();
    first.post.is_stepping_back.store(true, Ordering::Relaxed);
    first.post.step_back.notify_one();
    until("it steps back", || !term.lasts()).await;
    site.publish().await;
    assert_eq!(second.take().await.1, 2);
    until("it asks again", || !first.post.is_stepping_back.load(Ordering::Relaxed)).await;
    site.publish().await;
    assert_eq!(second.take().await.1, 3, "who has it keeps it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_comes_once_and_what_follows_comes_too() {
    let site = Site::start().await;
    let mut member = site.member().await;
    let (first, _) = member.take().await;
    let mut last = first.clone();
    let blocks = [
        &b"NATS/1.0\r\nX: \xff\r\n\r\n"[..],
        b"NATS/1.0\r\nnonsense\r\n\r\n",
        b"NATS/1.0\r\nX: a\rb\r\n\r\n",
        b"NATS/1.0\r\nX: a\r\n\r\n and more\r\n\r\n",
        // The server cuts two bytes off before it adds the pin.
        b"NATS/1.0",
    ];
    for (number, block) in (2..).step_by(2).zip(blocks) {
        site.plant(block);
        site.publish().await;
        let found = tokio::time::timeout(BOUND, member.unreadable.recv()).await.unwrap().unwrap();
        assert_eq!((found.sequence, found.unreadable().is_some()), (number, true));
        // Put off and taken all the same, as its sequence says.
        found.nak(&member.connection, Duration::ZERO).await;
        let (term, sequence) = member.take().await;
        assert!(term.lasts() && sequence == number + 1, "{sequence}");
        last = term;
        found.ack(&member.connection).await;
        site.is_acknowledged().await;
    }
    // None, unless this machine took most of two seconds to connect again.
    println!("terms lost over broken connections: {}", last.number() - first.number());
    assert!(member.unreadable.try_recv().is_err());
    assert_eq!(member.connection.link().borrow().generation, 1);
}

/// Neither ends a pull or a pin: the server takes out the status (2.15.1), and writes the pin over what has no end.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_odd_and_can_be_read_comes_as_any_other() {
    let site = Site::start().await;
    let mut member = site.member().await;
    let (term, _) = member.take().await;
    let blocks = [&b"NATS/1.0 503 No Responders\r\nX: a\r\n\r\n"[..], b"NATS/1.0\r\nnonsense"];
    for (number, block) in (2..).step_by(2).zip(blocks) {
        site.plant(block);
        site.publish().await;
        let mut taken = [member.take().await.1, member.take().await.1];
        taken.sort_unstable();
        assert_eq!(taken, [number, number + 1], "{}", block.escape_ascii());
        assert!(term.lasts(), "{}", block.escape_ascii());
        site.is_acknowledged().await;
    }
    assert!(member.unreadable.try_recv().is_err());
}
