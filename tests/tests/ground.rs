//! What the faults stand on does what it says: power that is lost takes what was not flushed, and no more.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sortie_tests::ground::{Disk, Files, Missing, Network, Throttle};

const SIZE: u64 = 32 << 20;

/// Says so where something is not to be had here.
fn had<T>(what: Result<T, Missing>) -> Option<T> {
    what.inspect_err(|missing| eprintln!("SKIPPED: {missing}")).ok()
}

#[test]
fn power_takes_what_was_not_flushed_and_leaves_what_was() {
    let Some(mut disk) = had(Disk::on_a_file(SIZE)) else { return };
    let write = |name: &str| {
        let mut file = File::create(disk.path().join(name)).unwrap();
        file.write_all(name.as_bytes()).unwrap();
        file
    };
    write("flushed").sync_all().unwrap();
    drop(write("unflushed"));
    disk.lose_power().unwrap();
    assert_eq!(fs::read_to_string(disk.path().join("flushed")).unwrap(), "flushed");
    let lost = fs::read_to_string(disk.path().join("unflushed"));
    assert!(lost.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound), "{lost:?}");
}

#[test]
fn a_disk_that_turned_read_only_is_writable_once_it_is_repaired() {
    let Some(disk) = had(Disk::on_a_file(SIZE)) else { return };
    let mut open = File::create(disk.path().join("open")).unwrap();
    open.write_all(b"1").unwrap();
    open.sync_all().unwrap();
    let Some(()) = had(disk.turn_read_only()) else { return };
    let refused = open.write_all(b"2").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    drop(open);
    disk.repair().unwrap();
    assert_eq!(fs::read_to_string(disk.path().join("open")).unwrap(), "1");
    File::create(disk.path().join("new")).unwrap();
}

/// A shell that does what it reads.
fn shell() -> Child {
    Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_slow_disk_is_slow_for_one_process_only() {
    let Some(disk) = had(Disk::on_a_file(SIZE)) else { return };
    let mut slowed = shell();
    let Some(throttle) = had(Throttle::on(slowed.id(), &disk, 10)) else {
        slowed.kill().unwrap();
        slowed.wait().unwrap();
        return;
    };
    let script = |name: &str| {
        let path = disk.path().join(name).display().to_string();
        format!(
            "for n in 1 2 3 4 5 6 7 8 9 10; do dd if=/dev/zero of={path}$n bs=4k count=1 conv=fsync status=none; done\n"
        )
    };
    let took = |mut shell: Child, name: &str| {
        let begun = Instant::now();
        shell.stdin.take().unwrap().write_all(script(name).as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
        begun.elapsed()
    };
    // The least of three: what else this machine does makes none of them quicker.
    let quick = ["one", "two", "three"].map(|name| took(shell(), name)).into_iter().min().unwrap();
    let slow = took(slowed, "slow");
    drop(throttle);
    // The first write of a second is free, and the other nine wait a tenth of one each.
    assert!(slow > Duration::from_millis(500) && slow > 2 * quick, "ten flushes: {quick:?}, and slowed {slow:?}");
}

#[test]
fn a_process_without_files_has_them_again() {
    let mut process = shell();
    let Some(files) = had(Files::exhaust(process.id(), 0)) else {
        process.kill().unwrap();
        process.wait().unwrap();
        return;
    };
    let mut input = process.stdin.take().unwrap();
    // The shell answers once, when it may open a file again.
    input.write_all(b"until (exec 9</dev/null) 2>/dev/null; do echo none; done; echo some\n").unwrap();
    let mut output = process.stdout.take().unwrap();
    let mut first = [0; 5];
    output.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"none\n");
    drop((files, input));
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("some\n"), "{rest}");
    process.wait().unwrap();
}

#[test]
fn who_is_cut_off_is_not_heard_until_it_is_healed() {
    let Some(network) = had(Network::of(2)) else { return };
    // Nobody listens there, which is told by whoever is there.
    let hears = |place: usize, within: Duration| {
        let end = Instant::now() + within;
        while Instant::now() < end {
            let address = SocketAddr::new(network.address(place), 4_000);
            let refused = TcpStream::connect_timeout(&address, Duration::from_millis(500)).unwrap_err();
            if refused.kind() == ErrorKind::ConnectionRefused {
                return true;
            }
        }
        false
    };
    let before = [0, 1].map(|place| hears(place, Duration::from_secs(10)));
    network.cut_off(&[0]).unwrap();
    let cut = (hears(0, Duration::from_secs(1)), hears(1, Duration::from_secs(10)));
    network.heal().unwrap();
    let healed = hears(0, Duration::from_secs(10));
    assert_eq!((before, cut, healed), ([true, true], (false, true), true));
}
