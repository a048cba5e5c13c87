//! Whose turn it is: smooth weighted round robin, as nginx does it among upstreams. Over any stretch each gets its share,
//! heavier ones first, and nobody with work waits for ever.

/// One that takes turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    weight: i64,
    credit: i64,
}

impl Turn {
    pub(super) fn new(weight: u32) -> Self {
        Self { weight: i64::from(weight), credit: 0 }
    }
}

/// Shares `count` turns among those who have work.
pub(super) fn share(count: usize, turns: &mut [Turn]) -> Vec<usize> {
    let mut shares = vec![0; turns.len()];
    let whole: i64 = turns.iter().map(|turn| turn.weight).sum();
    for _ in 0..count {
        for turn in turns.iter_mut() {
            turn.credit += turn.weight;
        }
        let Some(next) = (0..turns.len()).rev().max_by_key(|index| turns[*index].credit) else { break };
        turns[next].credit -= whole;
        shares[next] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(weights: &[u32], count: usize) -> Vec<usize> {
        let mut turns: Vec<Turn> = weights.iter().map(|weight| Turn::new(*weight)).collect();
        let mut order = Vec::new();
        for _ in 0..count {
            let shares = share(1, &mut turns);
            order.extend(shares.iter().position(|share| *share == 1));
        }
        order
    }

    #[test]
    fn lanes_get_sixteen_to_four_to_one() {
        let order = sequence(&[16, 4, 1], 42);
        let of = |lane| order.iter().filter(|taken| **taken == lane).count();
        assert_eq!((of(0), of(1), of(2)), (32, 8, 2));
        assert_eq!(order[0], 0, "urgent is first");
    }

    #[test]
    fn many_turns_at_once_are_the_same_as_one_by_one() {
        let mut turns = [Turn::new(16), Turn::new(4), Turn::new(1)];
        assert_eq!(share(21, &mut turns), [16, 4, 1]);
        assert_eq!(share(5, &mut []), Vec::<usize>::new());
    }
}
