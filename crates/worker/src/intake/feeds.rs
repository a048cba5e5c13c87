//! Which consumers have a pull open, and which pulls to open next: bookkeeping without any IO.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::turns::{Turn, share};

/// After how long without a sign a waiting pull counts as gone: two heartbeats of the server, and a bit.
const SILENCE_MAX: Duration = Duration::from_secs(11);

/// After how long an immediate pull without an end counts as gone.
const ANSWER_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Feed {
    turn: Turn,
    /// The capability it belongs to, by index.
    capability: usize,
    is_hot: bool,
    pull: Option<Pull>,
    /// The consumer is not there; it is to be made again from this moment on.
    remake_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Pull {
    tag: u64,
    /// What an immediate pull may still bring; 0 for a waiting one.
    reserved: usize,
    sign: Instant,
}

/// A pull to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Ask this feed for so many of what is there.
    Now { feed: usize, batch: usize },
    /// Wait for one message of this feed.
    Wait { feed: usize },
}

/// The feeds of one worker: one per consumer that it pulls from.
#[derive(Debug)]
pub(super) struct Feeds {
    feeds: Vec<Feed>,
    /// Those without an open pull: there may be thousands of feeds, and few of them change at a time.
    unpulled: BTreeSet<usize>,
    /// What open immediate pulls may still bring, per capability, and in all.
    reserved: Vec<usize>,
    reserved_in_all: usize,
    tags: u64,
}

impl Feeds {
    /// Each feed by its weight and the index of its capability.
    pub(super) fn new(weights: impl Iterator<Item = (u32, usize)>) -> Self {
        let feeds: Vec<Feed> = weights
            .map(|(weight, capability)| Feed {
                turn: Turn::new(weight),
                capability,
                is_hot: false,
                pull: None,
                remake_at: None,
            })
            .collect();
        let capabilities = feeds.iter().map(|feed| feed.capability + 1).max().unwrap_or(0);
        Self {
            unpulled: (0..feeds.len()).collect(),
            feeds,
            reserved: vec![0; capabilities],
            reserved_in_all: 0,
            tags: 0,
        }
    }

    /// Slots that open pulls may still fill.
    pub(super) fn reserved(&self) -> usize {
        self.reserved_in_all
    }

    /// Whether any pull is open.
    pub(super) fn is_any_open(&self) -> bool {
        self.unpulled.len() < self.feeds.len()
    }

    /// The pulls to open with so many slots free. `room` is what each capability may still take: hot feeds share the free
    /// slots by weight, cold ones wait for one message each. It looks at the capabilities of feeds without a pull alone.
    pub(super) fn wishes(&mut self, free: usize, room: impl Fn(usize) -> usize) -> Vec<Wish> {
        let mut rooms = Vec::new();
        let (mut hot, mut groups, mut turns, mut waits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut last = None;
        // In their order, which keeps the feeds of a capability together.
        for index in &self.unpulled {
            let feed = &self.feeds[*index];
            if last != Some(feed.capability) {
                last = Some(feed.capability);
                rooms.push(room(feed.capability).saturating_sub(self.reserved[feed.capability]));
            }
            let group = rooms.len() - 1;
            if rooms[group] == 0 {
                continue;
            }
            if feed.is_hot {
                hot.push(*index);
                groups.push(group);
                turns.push(feed.turn);
            } else if feed.remake_at.is_none() {
                waits.push(Wish::Wait { feed: *index });
            }
        }
        let mut wishes = Vec::with_capacity(hot.len() + waits.len());
        let shares = share(free, &mut turns, &groups, &mut rooms);
        for ((feed, turn), batch) in hot.into_iter().zip(turns).zip(shares) {
            self.feeds[feed].turn = turn;
            if batch > 0 {
                wishes.push(Wish::Now { feed, batch });
            }
        }
        wishes.append(&mut waits);
        wishes
    }

    /// The tag of a feed's next pull: it tells the feed, and no two pulls have the same.
    pub(super) fn next_tag(&mut self, feed: usize) -> u64 {
        self.tags += 1;
        self.tags * self.feeds.len() as u64 + feed as u64
    }

    /// A pull was sent.
    pub(super) fn opened(&mut self, wish: Wish, tag: u64, now: Instant) {
        let (feed, reserved) = match wish {
            Wish::Now { feed, batch } => (feed, batch),
            Wish::Wait { feed } => (feed, 0),
        };
        self.feeds[feed].pull = Some(Pull { tag, reserved, sign: now });
        self.reserved[self.feeds[feed].capability] += reserved;
        self.reserved_in_all += reserved;
        self.unpulled.remove(&feed);
    }

    /// The server said that it still keeps a pull.
    pub(super) fn alive(&mut self, tag: u64, now: Instant) {
        if let Some(feed) = self.feed_of(tag)
            && let Some(pull) = &mut self.feeds[feed].pull
        {
            pull.sign = now;
        }
    }

    /// A pull ended with nothing more to bring; none if it is forgotten already.
    pub(super) fn ended(&mut self, tag: u64) -> Option<usize> {
        let feed = self.feed_of(tag)?;
        self.close(feed);
        self.feeds[feed].is_hot = false;
        Some(feed)
    }

    /// A message came; `pending` is what its consumer has behind it.
    pub(super) fn brought(&mut self, feed: usize, pending: u64, now: Instant) {
        let capability = self.feeds[feed].capability;
        let Some(pull) = &mut self.feeds[feed].pull else { return };
        pull.sign = now;
        if pull.reserved > 1 {
            pull.reserved -= 1;
            self.reserved[capability] -= 1;
            self.reserved_in_all -= 1;
            return;
        }
        self.close(feed);
        self.feeds[feed].is_hot = pending > 0;
    }

    /// The feed's consumer is not there, and is to be made again from this moment on.
    pub(super) fn is_gone(&mut self, feed: usize, remake_at: Instant) {
        self.feeds[feed].remake_at = Some(remake_at);
    }

    /// The feed's consumer is there again.
    pub(super) fn is_back(&mut self, feed: usize) {
        self.feeds[feed].remake_at = None;
    }

    /// One feed whose consumer is to be made again now.
    pub(super) fn to_remake(&self, now: Instant) -> Option<usize> {
        self.feeds.iter().position(|feed| feed.remake_at.is_some_and(|at| now >= at))
    }

    /// Lets go of pulls that gave no sign for too long: nobody says when a leader takes them with it.
    pub(super) fn forget_silent(&mut self, now: Instant) {
        let is_silent = |pull: Pull| {
            let patience = if pull.reserved > 0 { ANSWER_MAX } else { SILENCE_MAX };
            now.saturating_duration_since(pull.sign) > patience
        };
        for feed in 0..self.feeds.len() {
            if self.feeds[feed].pull.is_some_and(is_silent) {
                self.close(feed);
            }
        }
    }

    /// Lets go of every pull: they went with their inbox, or with the connection.
    pub(super) fn forget_all(&mut self) {
        for feed in 0..self.feeds.len() {
            self.close(feed);
        }
    }

    fn feed_of(&self, tag: u64) -> Option<usize> {
        let feed = usize::try_from(tag.checked_rem(self.feeds.len() as u64)?).ok()?;
        self.feeds[feed].pull.is_some_and(|pull| pull.tag == tag).then_some(feed)
    }

    fn close(&mut self, feed: usize) {
        if let Some(pull) = self.feeds[feed].pull.take() {
            self.reserved[self.feeds[feed].capability] -= pull.reserved;
            self.reserved_in_all -= pull.reserved;
        }
        self.unpulled.insert(feed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(feeds: &mut Feeds, free: usize, now: Instant) -> Vec<(Wish, u64)> {
        let wishes = feeds.wishes(free, |_| 100);
        let open = wishes.into_iter().map(|wish| {
            let (Wish::Now { feed, .. } | Wish::Wait { feed }) = wish;
            let tag = feeds.next_tag(feed);
            feeds.opened(wish, tag, now);
            (wish, tag)
        });
        open.collect()
    }

    #[test]
    fn a_cold_feed_waits_and_an_arrival_makes_it_hot() {
        let (mut feeds, now) = (Feeds::new([(16, 0), (4, 0), (1, 0)].into_iter()), Instant::now());
        let waits = open(&mut feeds, 10, now);
        assert!(waits.iter().all(|(wish, _)| matches!(wish, Wish::Wait { .. })));
        assert_eq!((feeds.reserved(), open(&mut feeds, 10, now).len()), (0, 0));
        feeds.brought(1, 7, now);
        let (wish, tag) = open(&mut feeds, 9, now)[0];
        assert_eq!((wish, feeds.reserved()), (Wish::Now { feed: 1, batch: 9 }, 9));
        for left in (1..9).rev() {
            feeds.brought(1, 1, now);
            assert_eq!(feeds.reserved(), left);
        }
        assert_eq!(feeds.ended(tag), Some(1));
        assert_eq!((feeds.reserved(), feeds.ended(tag)), (0, None));
        assert_eq!(open(&mut feeds, 9, now)[0].0, Wish::Wait { feed: 1 });
    }

    #[test]
    fn a_filled_pull_is_closed_by_its_last_message() {
        let (mut feeds, now) = (Feeds::new([(4, 0)].into_iter()), Instant::now());
        open(&mut feeds, 2, now);
        feeds.brought(0, 5, now);
        open(&mut feeds, 2, now);
        feeds.brought(0, 4, now);
        feeds.brought(0, 0, now);
        assert_eq!((feeds.reserved(), feeds.is_any_open()), (0, false));
        assert_eq!(open(&mut feeds, 2, now)[0].0, Wish::Wait { feed: 0 }, "nothing is behind the last one");
        feeds.brought(0, 3, now);
        feeds.brought(0, 2, now);
        assert_eq!(feeds.reserved(), 0, "a message without a pull counts for nothing");
    }

    #[test]
    fn silent_and_lost_pulls_are_opened_again() {
        let (mut feeds, now) = (Feeds::new([(4, 0), (1, 0)].into_iter()), Instant::now());
        let tags: Vec<u64> = open(&mut feeds, 2, now).iter().map(|(_, tag)| *tag).collect();
        let later = now + SILENCE_MAX + Duration::from_millis(1);
        feeds.alive(tags[1], later);
        feeds.forget_silent(later);
        assert_eq!(open(&mut feeds, 2, later).len(), 1, "only the silent one");
        feeds.forget_all();
        assert!(!feeds.is_any_open());
        feeds.is_gone(0, later);
        assert_eq!(feeds.to_remake(later), Some(0));
        let wishes = open(&mut feeds, 2, later);
        assert_eq!(wishes.len(), 1, "a consumer that is gone is not pulled from");
    }
}
