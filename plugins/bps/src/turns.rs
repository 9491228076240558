//! Whose turn it is among the lanes of the optimum: each is to carry its share of the rows.

/// Rows that a lane may catch up on after it was left alone: two full batches.
const CATCH_UP: f64 = 64.0;

/// How far each lane of a plan is, in rows of the whole flow: rows carried over share. A new plan starts anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Turns {
    pub(crate) carried: Vec<f64>,
    /// Where the flow as a whole is.
    pub(crate) flow: f64,
}

impl Turns {
    /// Smaller goes first.
    pub(crate) fn of(&self, lane: usize) -> u64 {
        let carried = self.carried.get(lane).copied().unwrap_or(0.0);
        carried.max(self.flow - CATCH_UP).max(0.0) as u64
    }

    /// A lane took rows; one without a share is not counted.
    pub(crate) fn took(&mut self, lane: usize, share: f64, rows: u32) {
        if share <= 0.0 {
            return;
        }
        if self.carried.len() <= lane {
            self.carried.resize(lane + 1, 0.0);
        }
        let begun = self.carried[lane].max(self.flow - CATCH_UP);
        self.carried[lane] = begun + f64::from(rows) / share;
        self.flow = self.flow.max(begun);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_keep_their_shares() {
        let (mut turns, mut rows) = (Turns::default(), [0; 2]);
        for _ in 0..100 {
            let lane = usize::from(turns.of(1) < turns.of(0));
            turns.took(lane, [0.75, 0.25][lane], 8);
            rows[lane] += 8;
        }
        assert_eq!(rows, [600, 200]);
    }

    #[test]
    fn one_that_was_left_alone_does_not_take_all() {
        let mut turns = Turns::default();
        (0..1_000).for_each(|_| turns.took(0, 0.5, 32));
        let mut in_a_row = 0;
        while turns.of(1) <= turns.of(0) {
            turns.took(1, 0.5, 32);
            in_a_row += 1;
        }
        assert!(in_a_row <= 3, "{in_a_row}");
    }
}
