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

/// Shares `count` turns among those who have work. `room` holds what each group may still take, and `group` tells whose
/// group each one is in.
pub(super) fn share(count: usize, turns: &mut [Turn], group: &[usize], room: &mut [usize]) -> Vec<usize> {
    let mut shares = vec![0; turns.len()];
    for _ in 0..count {
        let mut whole = 0;
        let mut next: Option<usize> = None;
        for index in 0..turns.len() {
            if room[group[index]] == 0 {
                continue;
            }
            turns[index].credit += turns[index].weight;
            whole += turns[index].weight;
            if next.is_none_or(|best| turns[index].credit > turns[best].credit) {
                next = Some(index);
            }
        }
        let Some(next) = next else { break };
        turns[next].credit -= whole;
        room[group[next]] -= 1;
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
            let shares = share(1, &mut turns, &vec![0; weights.len()], &mut [1]);
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
        assert_eq!(share(21, &mut turns, &[0, 0, 0], &mut [100]), [16, 4, 1]);
        assert_eq!(share(5, &mut [], &[], &mut [100]), Vec::<usize>::new());
    }

    #[test]
    fn a_group_without_room_gets_nothing_more() {
        let mut turns = [Turn::new(16), Turn::new(4), Turn::new(4)];
        assert_eq!(share(10, &mut turns, &[0, 0, 1], &mut [1, 3]), [1, 0, 3]);
    }
}
