//! The live screen: frame after frame, until somebody has seen enough.

use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers};
use futures_util::StreamExt;
use process::{ExitCode, Problem};
use ratatui::{DefaultTerminal, text::Line, widgets::Paragraph};

use super::{
    frame::{self, Order},
    snapshot::{Looker, Snapshot},
};
use crate::{refusal, session::Session};

/// How soon a frame is tried again that could not be had.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a key is pressed for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    End,
    Sort,
    /// The same once more, in another size.
    Redraw,
    Nothing,
}

/// Gives the terminal back as it was, however this ends.
struct Screen(DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows frame after frame until `q`, Escape, Ctrl-C or a signal.
pub(super) async fn run(looker: &mut Looker, session: &Session) -> Result<(), Problem> {
    // A broker that refuses the first look is told as every command tells it.
    let mut snapshot = looker.look().await.map_err(refusal::problem)?;
    let mut screen = Screen(ratatui::try_init().map_err(|error| unusable(&error))?);
    let mut keys = EventStream::new();
    let mut order = Order::default();
    let mut refusal = None;
    loop {
        draw(&mut screen, &snapshot, order, refusal.as_deref())?;
        let look = look_again(looker, refusal.is_some());
        tokio::pin!(look);
        loop {
            tokio::select! {
                looked = &mut look => {
                    match looked {
                        Ok(found) => (snapshot, refusal) = (found, None),
                        Err(error) => refusal = Some(error.to_string()),
                    }
                    break;
                }
                key = keys.next() => match wish(key) {
                    Wish::End => return Ok(()),
                    Wish::Sort => {
                        order = if order == Order::Load { Order::Name } else { Order::Load };
                        draw(&mut screen, &snapshot, order, refusal.as_deref())?;
                    }
                    Wish::Redraw => draw(&mut screen, &snapshot, order, refusal.as_deref())?,
                    Wish::Nothing => {}
                },
                () = session.shutdown().begun() => return Ok(()),
            }
        }
    }
}

/// A look takes a second by itself; one that failed is not tried again at once.
async fn look_again(looker: &mut Looker, has_failed: bool) -> Result<Snapshot, client::Error> {
    if has_failed {
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    looker.look().await
}

fn draw(screen: &mut Screen, snapshot: &Snapshot, order: Order, refusal: Option<&str>) -> Result<(), Problem> {
    let drawn = screen.0.draw(|frame| {
        frame::draw(frame, snapshot, order);
        if let Some(reason) = refusal {
            let mut line = frame.area();
            line.y = line.bottom().saturating_sub(1);
            line.height = 1.min(frame.area().height);
            frame.render_widget(Paragraph::new(Line::from(format!("as it was; now: {reason}"))), line);
        }
    });
    drawn.map(|_| ()).map_err(|error| unusable(&error))
}

fn wish(event: Option<std::io::Result<Event>>) -> Wish {
    match event {
        // No keyboard any more.
        None | Some(Err(_)) => Wish::End,
        Some(Ok(Event::Resize(..))) => Wish::Redraw,
        Some(Ok(Event::Key(key))) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Wish::End,
            // A terminal in raw mode makes no signal of it.
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Wish::End,
            KeyCode::Char('s') => Wish::Sort,
            _ => Wish::Nothing,
        },
        Some(Ok(_)) => Wish::Nothing,
    }
}

fn unusable(error: &std::io::Error) -> Problem {
    Problem::new(ExitCode::Internal, format!("the terminal cannot be used: {error}"))
        .advise("see one frame with `sortie top --once`")
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn keys_do_what_the_help_says() {
        let press = |code, modifiers| Some(Ok(Event::Key(KeyEvent::new(code, modifiers))));
        assert_eq!(wish(press(KeyCode::Char('q'), KeyModifiers::NONE)), Wish::End);
        assert_eq!(wish(press(KeyCode::Char('c'), KeyModifiers::CONTROL)), Wish::End);
        assert_eq!(wish(press(KeyCode::Char('c'), KeyModifiers::NONE)), Wish::Nothing);
        assert_eq!(wish(press(KeyCode::Char('s'), KeyModifiers::NONE)), Wish::Sort);
        assert_eq!(wish(Some(Ok(Event::Resize(80, 24)))), Wish::Redraw);
        assert_eq!(wish(None), Wish::End);
    }
}
