//! Drawing a snapshot: on a terminal, and into plain text by the same code.

use client::Queue;
use protocol::{
    DeadLetter, Service, limits,
    registry::{AgentEntry, Health, State},
    time,
};
use ratatui::{
    Frame, Terminal,
    backend::TestBackend,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize},
    text::{Line, Span},
    widgets::{Paragraph, Row, Table},
};

use super::snapshot::Snapshot;
use crate::commands::queues::{age, rate, state};

/// Rows of one table in plain text.
const ROWS_MAX: usize = 40;

/// Width of plain text.
const WIDTH: u16 = 130;

/// How agents are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Those that are not well first, then the busiest.
    #[default]
    Load,
    /// By kind and instance.
    Name,
}

/// One frame as plain text, as high as what it shows.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let rows = |count: usize| count.min(ROWS_MAX) + 2;
    let height = 2 + rows(busy(snapshot).len()) + rows(snapshot.agents.len()) + rows(snapshot.last_failures.len());
    let backend = TestBackend::new(WIDTH, u16::try_from(height).unwrap_or(u16::MAX));
    let Ok(mut terminal) = Terminal::new(backend);
    let heights = [rows(busy(snapshot).len()), rows(snapshot.agents.len())].map(|rows| rows as u16);
    let Ok(_) = terminal.draw(|frame| {
        let [head, queues, agents, failures] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(heights[0]),
            Constraint::Length(heights[1]),
            Constraint::Fill(1),
        ])
        .areas(frame.area());
        draw_parts(frame, snapshot, Order::Load, [head, queues, agents, failures]);
    });
    let buffer = terminal.backend().buffer();
    let line = |y: u16| {
        let line: String = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect();
        format!("{}\n", line.trim_end())
    };
    (0..buffer.area.height).map(line).collect()
}

/// One frame on a screen of any size.
pub(super) fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot, order: Order) {
    let queues = u16::try_from(busy(snapshot).len()).unwrap_or(u16::MAX).saturating_add(2);
    let failures = u16::try_from(snapshot.last_failures.len()).unwrap_or(u16::MAX).saturating_add(2).min(8);
    let areas = Layout::vertical([
        Constraint::Length(2),
        Constraint::Max(queues),
        Constraint::Fill(1),
        Constraint::Length(failures),
    ])
    .areas(frame.area());
    draw_parts(frame, snapshot, order, areas);
}

fn draw_parts(frame: &mut Frame<'_>, snapshot: &Snapshot, order: Order, areas: [Rect; 4]) {
    let [head, queues, agents, failures] = areas;
    frame.render_widget(Paragraph::new(heading(snapshot)), head);
    draw_queues(frame, snapshot, queues);
    draw_agents(frame, snapshot, order, agents);
    draw_failures(frame, snapshot, failures);
}

fn heading(snapshot: &Snapshot) -> Vec<Line<'static>> {
    let sum = |of: fn(&Queue) -> u64| snapshot.queues.queues.iter().map(of).sum::<u64>();
    let (slots, busy) = snapshot
        .agents
        .iter()
        .fold((0, 0), |(slots, busy), agent| (slots + agent.slots, busy + agent.slots_busy.min(agent.slots)));
    let dead = format!("{} dead", snapshot.dead);
    vec![
        Line::from(format!(
            "{}  {} waiting  {} running  {} later  {} in  {} out  {} outcomes/s",
            time::format(snapshot.queues.at),
            sum(|queue| queue.waiting),
            sum(|queue| queue.running),
            snapshot.queues.scheduled,
            rate(total(snapshot, |queue| queue.rate_in)),
            rate(total(snapshot, |queue| queue.rate_out)),
            rate(snapshot.outcomes_per_second),
        )),
        Line::from(vec![
            Span::raw(format!("{} agents  {busy}/{slots} slots busy  ", snapshot.agents.len())),
            if snapshot.dead > 0 { dead.yellow() } else { Span::raw(dead) },
            Span::raw(format!(" letters, {}/s  asked in {} ms", rate(snapshot.dead_per_second), snapshot.asked_in_ms)),
        ]),
    ]
}

fn total(snapshot: &Snapshot, of: fn(&Queue) -> Option<f64>) -> Option<f64> {
    let rates: Vec<f64> = snapshot.queues.queues.iter().filter_map(of).collect();
    (!rates.is_empty()).then(|| rates.iter().sum())
}

/// The queues that have something to show; the fullest first.
fn busy(snapshot: &Snapshot) -> Vec<&Queue> {
    let mut queues: Vec<&Queue> = snapshot.queues.queues.iter().filter(|queue| !queue.is_idle()).collect();
    queues.sort_by_key(|queue| std::cmp::Reverse((queue.waiting, queue.running)));
    queues
}

const QUEUE_WIDTHS: [Constraint; 11] = [
    Constraint::Fill(2),
    Constraint::Length(7),
    Constraint::Length(9),
    Constraint::Length(9),
    Constraint::Length(9),
    Constraint::Length(8),
    Constraint::Length(8),
    Constraint::Length(8),
    Constraint::Length(7),
    Constraint::Length(9),
    Constraint::Fill(2),
];

fn draw_queues(frame: &mut Frame<'_>, snapshot: &Snapshot, area: Rect) {
    let queues = busy(snapshot);
    let head =
        ["CAPABILITY", "LANE", "WAITING", "RUNNING", "LATER", "OLDEST", "IN/S", "OUT/S", "AGENTS", "FREE", "STATE"];
    let rows = queues.iter().map(|queue| {
        let cells = [
            queue.capability.to_string(),
            queue.lane.to_string(),
            queue.waiting.to_string(),
            queue.running.to_string(),
            queue.scheduled.to_string(),
            queue.oldest.map_or_else(|| "-".to_owned(), |at| age(at, snapshot.queues.at)),
            rate(queue.rate_in),
            rate(queue.rate_out),
            queue.agents.to_string(),
            format!("{}/{}", queue.slots_free, queue.slots),
            state(queue),
        ];
        let is_kept = queue.service != Service::Served || queue.paused.is_some();
        let is_stuck = queue.waiting + queue.lost > 0 && is_kept;
        Row::new(cells).style(if is_stuck { Style::new().fg(Color::Yellow) } else { Style::new() })
    });
    table(frame, area, &head, rows, queues.len(), &QUEUE_WIDTHS);
}

const AGENT_WIDTHS: [Constraint; 8] = [
    Constraint::Fill(2),
    Constraint::Length(38),
    Constraint::Length(10),
    Constraint::Length(9),
    Constraint::Length(9),
    Constraint::Length(10),
    Constraint::Length(8),
    Constraint::Fill(3),
];

fn draw_agents(frame: &mut Frame<'_>, snapshot: &Snapshot, order: Order, area: Rect) {
    let mut agents: Vec<&AgentEntry> = snapshot.agents.iter().collect();
    if order == Order::Load {
        agents.sort_by_key(|agent| std::cmp::Reverse((!is_well(agent), agent.slots_busy * 1_000 / agent.slots.max(1))));
    }
    let head = ["AGENT", "INSTANCE", "VERSION", "STATE", "SLOTS", "DONE", "FAILED", "SERVES"];
    // Only what fits is made into rows: there may be thousands.
    let rows = agents.iter().take(usize::from(area.height)).map(|agent| {
        let serves: Vec<&str> = agent.capabilities.iter().map(|served| served.name.as_str()).collect();
        let cells = [
            agent.kind.to_string(),
            agent.instance.to_string(),
            agent.version.clone(),
            if is_well(agent) { word(&agent.state) } else { word(&agent.health) },
            format!("{}/{}", agent.slots_busy, agent.slots),
            agent.counts.completed.to_string(),
            agent.counts.failed.to_string(),
            serves.join(" "),
        ];
        Row::new(cells).style(if is_well(agent) { Style::new() } else { Style::new().fg(Color::Red) })
    });
    table(frame, area, &head, rows, agents.len(), &AGENT_WIDTHS);
}

fn is_well(agent: &AgentEntry) -> bool {
    agent.state != State::Failed && !matches!(agent.health, Health::Degraded | Health::Unhealthy)
}

const FAILURE_WIDTHS: [Constraint; 5] =
    [Constraint::Length(9), Constraint::Fill(1), Constraint::Length(38), Constraint::Length(22), Constraint::Fill(3)];

/// The latest first.
fn draw_failures(frame: &mut Frame<'_>, snapshot: &Snapshot, area: Rect) {
    let letters: Vec<&DeadLetter> = snapshot.last_failures.iter().rev().collect();
    let rows = letters.iter().map(|letter| {
        Row::new([
            age(letter.dead_at, snapshot.queues.at),
            letter.capability.to_string(),
            letter.id.to_string(),
            letter.failure.code.clone(),
            limits::truncate(&letter.failure.message, 200),
        ])
    });
    table(frame, area, &["GIVEN UP", "CAPABILITY", "REQUEST", "CODE", "WHY"], rows, letters.len(), &FAILURE_WIDTHS);
}

/// A table with a head, and a last line that says how much did not fit.
fn table<'a>(
    frame: &mut Frame<'_>,
    area: Rect,
    head: &[&'static str],
    rows: impl Iterator<Item = Row<'a>>,
    count: usize,
    widths: &[Constraint],
) {
    let room = usize::from(area.height.saturating_sub(2));
    let shown = if count > room { room.saturating_sub(1) } else { count };
    let mut rows: Vec<Row<'_>> = rows.take(shown).collect();
    if shown < count {
        rows.push(Row::new([format!("and {} more", count - shown)]).dim());
    }
    let head = Row::new(head.iter().copied()).bold();
    frame.render_widget(Table::new(rows, widths.iter().copied()).header(head), area);
}

/// The word that stands on the wire.
fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}
