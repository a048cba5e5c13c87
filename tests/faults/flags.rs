//! What may be said on the command line, beside what every test binary takes.

use std::{path::PathBuf, time::Duration};

use libtest_mimic::Arguments;

pub(crate) const HELP: &str = "\
Faults under load, each ending in `sortie audit`.

  cargo test -p sortie-tests --test faults                        each fault for seconds
  cargo test -p sortie-tests --test faults -- kills --seed 7      one of them, or several, with the choices of a run before
  cargo test -p sortie-tests --test faults -- --long --hours 2    each fault for two hours, in rounds of a minute

  --long         rounds of a minute, for --hours, instead of one of seconds
  --hours HOURS  how long each fault goes on with --long [default: 1]
  --seed SEED    the choices of a run before: it prints its seed at the beginning, and with every failure [default: the time]
  --keep         keep logs, diary and acknowledgements of every round, not only of one that fails
  --out FILE     write the report there, as one JSON document

A seed repeats what is chosen: what is asked for, who is hurt, how, and how long after the last time. It does not repeat what
the machine makes of it: what a process was doing at that moment differs from run to run. Round N has seed SEED + N.
What every test binary takes is taken too, such as a filter, --list, --exact and --skip:
";

/// One round of the short form.
const SHORT: Duration = Duration::from_secs(10);

/// One round of the long form.
const LONG: Duration = Duration::from_secs(60);

/// Our own flags.
#[derive(Clone, Debug)]
pub(crate) struct Flags {
    /// How long each fault goes on, in rounds; none for one round.
    pub(crate) whole: Option<Duration>,
    /// How long there is fire in one round.
    pub(crate) round: Duration,
    pub(crate) seed: u64,
    pub(crate) out: Option<PathBuf>,
    /// Whether the files of each round stay.
    pub(crate) keeps: bool,
    /// The faults that are named; all where none is.
    pub(crate) names: Vec<String>,
    /// Whether anything runs at all.
    pub(crate) is_list: bool,
}

impl Flags {
    /// Takes ours out, also the names of faults, of which there may be several, and leaves the others to the test library.
    pub(crate) fn read(words: impl IntoIterator<Item = String>, faults: &[&str]) -> Result<(Self, Arguments), String> {
        let mut words = words.into_iter();
        let mut others: Vec<String> = words.next().into_iter().collect();
        let mut names = Vec::new();
        let (mut is_long, mut keeps, mut hours, mut seed, mut out) = (false, false, None, None, None);
        while let Some(word) = words.next() {
            let (name, given) = match word.split_once('=') {
                Some((name, given)) => (name, Some(given.to_owned())),
                None => (word.as_str(), None),
            };
            let mut value = || given.clone().or_else(|| words.next()).ok_or(format!("{name} takes a value"));
            match name {
                "--long" => is_long = true,
                "--keep" => keeps = true,
                "--hours" => hours = Some(number::<f64>(name, &value()?)?),
                "--seed" => seed = Some(number::<u64>(name, &value()?)?),
                "--out" => out = Some(PathBuf::from(value()?)),
                _ if faults.contains(&name) => names.push(word),
                _ => {
                    if ["--help", "-h"].contains(&name) {
                        println!("{HELP}");
                    }
                    others.push(word);
                }
            }
        }
        if hours.is_some() && !is_long {
            return Err("--hours goes with --long".to_owned());
        }
        let hours = Duration::try_from_secs_f64(hours.unwrap_or(1.0) * 3_600.0).map_err(|error| error.to_string())?;
        // Whatever the seed, a round's is a small number on top of it.
        let seed = seed.unwrap_or_else(|| protocol::time::now().timestamp_millis().unsigned_abs() % 1_000_000_000);
        let mut arguments = Arguments::from_iter(others);
        // Each takes what there is of the machine.
        arguments.test_threads = Some(1);
        let round = if is_long { LONG } else { SHORT };
        let flags = Self { whole: is_long.then_some(hours), round, seed, out, keeps, names, is_list: arguments.list };
        Ok((flags, arguments))
    }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} takes a number, not {text:?}"))
}
