//! `sortie bench compare`.

use std::{fs, path::Path};

use bench::{Report, compare};
use process::{ExitCode, Problem};

use crate::session::Session;

pub(super) fn run(before: &Path, after: &Path, session: &Session) -> Result<ExitCode, Problem> {
    let (first, second) = (read(before)?, read(after)?);
    let changes = compare::compare(&first, &second).map_err(|why| {
        Problem::new(ExitCode::Usage, format!("these reports cannot be compared: {why}"))
            .advise("measure both with the same words: `sortie bench requests --out before.json`")
    })?;
    session.output().show(&changes, || {
        let rows = changes.iter().map(|change| {
            let told = if change.is_worse { "worse" } else { "" };
            let number = |figure: f64| if figure < 100.0 { format!("{figure:.2}") } else { format!("{figure:.0}") };
            [
                change.figure.clone(),
                number(change.before),
                number(change.after),
                format!("{:.2}", change.factor),
                told.to_owned(),
            ]
        });
        session.output().table(&["FIGURE", "BEFORE", "AFTER", "FACTOR", ""], rows)
    })?;
    Ok(if changes.iter().any(|change| change.is_worse) { ExitCode::WorkFailed } else { ExitCode::Done })
}

fn read(path: &Path) -> Result<Report, Problem> {
    let refused = |why: String| {
        Problem::new(ExitCode::Usage, format!("{} is no report: {why}", path.display()))
            .advise("`sortie bench requests --out FILE` writes one")
    };
    let text = fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| refused(error.to_string()))
}
