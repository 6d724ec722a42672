//! Which directories on the way down stay open.

/// The most directories that are open at a time.
pub(super) const MAX_OPEN: usize = 64;

/// The depths whose directories are open, rising. The first and the last are never given up.
///
/// Beyond the limit, the one goes whose hole is the smallest against its distance from the deepest: what stays gets
/// sparser the farther it is away. On the way up a hole is filled again from the open directory above it, under the same
/// rule. So a tree of depth n costs a small multiple of n openings, whatever its form (the test counts them).
#[derive(Debug, Default)]
pub(super) struct OpenDepths(Vec<usize>);

impl OpenDepths {
    pub(super) fn push(&mut self, depth: usize) {
        self.0.push(depth);
    }

    pub(super) fn deepest(&self) -> usize {
        self.0.last().copied().unwrap_or(0)
    }

    /// Forgets `depth` and all below it.
    pub(super) fn forget_from(&mut self, depth: usize) {
        while self.0.last().is_some_and(|&last| last >= depth) {
            self.0.pop();
        }
    }

    /// Returns the depth to close when there are too many.
    pub(super) fn give_up_surplus(&mut self) -> Option<usize> {
        if self.0.len() > MAX_OPEN { self.give_up() } else { None }
    }

    /// Returns the depth to close next, if any can be spared.
    pub(super) fn give_up(&mut self) -> Option<usize> {
        let deepest = self.deepest();
        let hole_for_distance = |&index: &usize| {
            let (above, below) = (self.0[index - 1], self.0[index + 1]);
            ((below - above) << 16) / (deepest - below + 1)
        };
        let index = (1..self.0.len().saturating_sub(1)).min_by_key(hole_for_distance)?;
        Some(self.0.remove(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks as the engine does, on numbers, and counts what is opened.
    #[derive(Default)]
    struct Climber {
        open: OpenDepths,
        openings: usize,
    }

    impl Climber {
        fn open(&mut self, depth: usize) {
            self.open.push(depth);
            self.openings += 1;
            while self.open.give_up_surplus().is_some() {}
            assert!(self.open.0.len() <= MAX_OPEN && self.open.0.is_sorted());
            assert_eq!((self.open.0[0], self.open.deepest()), (0, depth));
        }

        fn up_to(&mut self, depth: usize) {
            self.open.forget_from(depth + 1);
            for missing in self.open.deepest() + 1..=depth {
                self.open(missing);
            }
        }
    }

    #[test]
    fn a_deep_chain_costs_a_small_multiple_of_its_depth() {
        for depth in [10, 1_000, 60_000] {
            let mut climber = Climber::default();
            (0..=depth).for_each(|down| climber.open(down));
            (0..depth).rev().for_each(|up| climber.up_to(up));
            assert!(climber.openings <= 5 * depth, "{depth}: {}", climber.openings);
        }
    }

    #[test]
    fn side_branches_on_a_deep_chain_do_not_make_it_quadratic() {
        let (depth, branch) = (1_000, 100);
        let mut climber = Climber::default();
        (0..=depth).for_each(|down| climber.open(down));
        for up in (0..depth).rev() {
            climber.up_to(up);
            (up + 1..up + branch).for_each(|down| climber.open(down));
            (up..up + branch - 1).rev().for_each(|up| climber.up_to(up));
        }
        assert!(climber.openings <= 5 * depth * branch, "{}", climber.openings);
    }
}
