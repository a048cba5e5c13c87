//! The clocks of agents and coordinators step forward and back, by seconds and by an hour, while they work; the broker's stays
//! as it is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use sortie_tests::Fleet;
use tokio::process::Command;

use crate::{crew, report::Row, trial::Trial};

/// Where distributions put it: the variant for programs with threads.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// How far a clock is from the broker's, in seconds.
const STEPS: [i64; 7] = [3_600, -3_600, 300, -300, 10, -10, 0];

/// The library looks at its file this often.
const LOOKS: Duration = Duration::from_secs(1);

pub(crate) async fn run(trial: Trial) -> Result<Row> {
    let Some(library) = library().await else {
        let message = "SKIPPED: libfaketime does not work here; .ci/run installs it, or apt-get install faketime";
        eprintln!("{message}");
        return Ok(trial.skipped(message));
    };
    let fleet = Fleet::start().await?;
    let folder = tempfile::tempdir()?;
    let mut posts = crew::usual(&fleet.url());
    let mut clocks = Vec::new();
    for (number, post) in posts.iter_mut().enumerate() {
        let clock = folder.path().join(format!("clock-{number}"));
        set(&clock, 0)?;
        post.environment = environment(&library, &clock);
        clocks.push(clock);
    }
    let mut fire = trial.light(fleet, posts).await?;
    let mut steps = STEPS.iter().cycle();
    while fire.burns() {
        // Each step comes to somebody; to whom is the dice's to say.
        let step = *steps.next().context("there is always another")?;
        let chosen = fire.dice.random_range(0..clocks.len());
        let what = match step {
            0 => "clocks set right",
            1.. => "clocks stepped forward",
            _ => "clocks stepped back",
        };
        fire.strike(what);
        set(&clocks[chosen], step)?;
        // What it does with the new time it does after this.
        tokio::time::sleep(LOOKS).await;
        fire.recovered(what).await?;
        fire.pause(Duration::from_millis(100)..Duration::from_millis(700)).await;
    }
    // Whoever has a wrong clock is to come to rest with it.
    fire.prove().await
}

fn environment(library: &Path, clock: &Path) -> Vec<(String, String)> {
    let variables = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_CACHE_DURATION", LOOKS.as_secs().to_string()),
        // A step of the clock is none of the time since boot. Versions differ in the name.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Sets a clock so many seconds away from the right time, for whoever reads it the next time.
fn set(clock: &Path, seconds: i64) -> Result<()> {
    // Nobody is to read half of it.
    let next = clock.with_extension("next");
    fs::write(&next, format!("{seconds:+}\n"))?;
    Ok(fs::rename(&next, clock)?)
}

/// The library, where it does what it should.
async fn library() -> Option<PathBuf> {
    let library = LIBRARIES.iter().map(PathBuf::from).find(|library| library.exists())?;
    tells_another_time(&library).await.ok().map(|()| library)
}

async fn tells_another_time(library: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let clock = folder.path().join("clock");
    set(&clock, -86_400)?;
    let mut date = Command::new("date");
    date.arg("+%s").envs(environment(library, &clock)).stdin(Stdio::null());
    let told: i64 = String::from_utf8(date.output().await?.stdout)?.trim().parse()?;
    let off = protocol::time::now().timestamp() - told;
    ensure!((86_300..86_500).contains(&off), "it is {off} s off");
    Ok(())
}
