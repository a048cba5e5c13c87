//! Keeps the server running on its store until it is told otherwise.

use std::sync::Arc;

use broker::task;
use embedded::{Config, Error, Server};
use process::{ExitCode, Problem};
use protocol::duration;
use tokio::{sync::watch, time::Instant};

use crate::supervisor::{
    Condition, Console,
    restart::{self, End, Next, Streak},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Run,
    End,
    Die,
}

/// The owner of the server. Dropped, it kills the server.
#[derive(Debug)]
pub(super) struct ServerKeeper {
    wish: watch::Sender<Wish>,
    condition: watch::Receiver<Condition>,
    _task: task::Owned<()>,
}

impl ServerKeeper {
    /// Starts the server, and again on the same store whenever it dies; gives its URL too.
    pub(super) async fn start(config: Config, console: &Arc<Console>) -> Result<(Self, String), Problem> {
        let server = Server::start(config).await.map_err(problem)?;
        let url = server.url();
        let (wish, wished) = watch::channel(Wish::Run);
        let (told, condition) = watch::channel(Condition::Waiting);
        let keeping = Keeping { server, console: Arc::clone(console), wished, told };
        Ok((Self { wish, condition, _task: task::spawn("server", keeping.keep()) }, url))
    }

    /// Its process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        match *self.condition.borrow() {
            Condition::Running(pid) => Some(pid),
            _ => None,
        }
    }

    /// Waits until it is not started again, and says why. May be dropped and called again.
    pub(super) async fn given_up(&self) -> String {
        let mut condition = self.condition.clone();
        let told = condition.wait_for(|condition| matches!(condition, Condition::GivenUp(_))).await;
        match told.as_deref() {
            Ok(Condition::GivenUp(why)) => why.clone(),
            _ => std::future::pending().await,
        }
    }

    /// Ends it in good order.
    pub(super) async fn end(&self) {
        self.over(Wish::End).await;
    }

    /// Kills it.
    pub(super) async fn kill(&self) {
        self.over(Wish::Die).await;
    }

    async fn over(&self, wish: Wish) {
        self.wish.send_if_modified(|now| {
            let stronger = wish > *now;
            *now = wish.max(*now);
            stronger
        });
        let mut condition = self.condition.clone();
        let _ = condition.wait_for(|condition| matches!(condition, Condition::Ended | Condition::GivenUp(_))).await;
    }
}

struct Keeping {
    server: Server,
    console: Arc<Console>,
    wished: watch::Receiver<Wish>,
    told: watch::Sender<Condition>,
}

impl Keeping {
    async fn keep(mut self) {
        let mut streak = Streak::default();
        let condition = loop {
            self.told.send_replace(Condition::Running(self.server.pid().unwrap_or_default()));
            let began = Instant::now();
            tokio::select! {
                ended = self.server.ended() => {
                    let told = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                    self.console.say(&format!("nats-server ended ({told}); starting it again on the same store"));
                }
                _ = self.wished.changed() => break self.stop().await,
            }
            if let Some(condition) = self.start_again(&mut streak, began).await {
                break condition;
            }
        };
        self.told.send_replace(condition);
    }

    /// Starts it until it runs; what it is otherwise.
    async fn start_again(&mut self, streak: &mut Streak, mut began: Instant) -> Option<Condition> {
        let mut why = String::new();
        loop {
            let (now, next) = restart::next(*streak, End::Exited(1), began.elapsed());
            *streak = now;
            let Next::Again(wait) = next else {
                let why = if why.is_empty() { "it crashed 5 times in a row".to_owned() } else { why };
                self.console.say(&format!("nats-server is given up: {why}"));
                return Some(Condition::GivenUp(why));
            };
            if tokio::time::timeout(wait, self.wished.changed()).await.is_ok() {
                return Some(self.stop().await);
            }
            began = Instant::now();
            match self.server.restart().await {
                Ok(()) => {
                    self.console.say("nats-server runs again");
                    return None;
                }
                Err(error) => why = error.to_string(),
            }
            self.console.say(&format!("{why}; trying again after {}", duration::format(wait)));
        }
    }

    async fn stop(&mut self) -> Condition {
        let wish = *self.wished.borrow_and_update();
        let stopped = match wish {
            Wish::Die => self.server.kill(),
            Wish::Run | Wish::End => tokio::select! {
                stopped = self.server.stop() => stopped,
                _ = self.wished.changed() => Ok(()),
            },
        };
        if let Err(error) = stopped.and_then(|()| self.server.kill()) {
            self.console.say(&format!("nats-server may be left behind: {error}"));
        }
        Condition::Ended
    }
}

/// Why there is no server, for whoever asked for one.
fn problem(error: Error) -> Problem {
    match error {
        Error::PortTaken { address } => Problem::new(ExitCode::Configuration, format!("{address} is in use"))
            .advise("end what listens there, or choose another port with --port"),
        Error::NoServer { .. } | Error::Unusable { .. } | Error::File { .. } => {
            Problem::new(ExitCode::Configuration, error.to_string())
        }
        _ => Problem::new(ExitCode::Internal, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_says_which_flag_chooses_another() {
        let problem = problem(Error::PortTaken { address: "127.0.0.1:4222".into() });
        assert!(problem.to_string().contains("127.0.0.1:4222 is in use\n") && problem.to_string().contains("--port"));
    }
}
