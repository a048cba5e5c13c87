//! A row of figures as a line of blocks.

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One block for each figure, as high as it is of the largest.
#[must_use]
pub fn line(figures: &[f64]) -> String {
    let most = figures.iter().copied().fold(0.0, f64::max);
    let block = |figure: &f64| {
        let share = if most > 0.0 { figure / most } else { 0.0 };
        // Between 0 and 7: a share is between 0 and 1.
        BLOCKS[((share * 7.0).round() as usize).min(7)]
    };
    figures.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_a_whole_block() {
        assert_eq!(line(&[0.0, 50.0, 100.0]), "▁▅█");
        assert_eq!(line(&[0.0, 0.0]), "▁▁");
        assert_eq!(line(&[]), "");
    }
}
