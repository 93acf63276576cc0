//! Means over steps of time, as rows come, in the memory of one step.

/// One step: what its rows come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its beginning on the wall clock, milliseconds since the Unix epoch; a whole multiple of the step.
    pub begin_ms: i64,
    /// How many rows lie in it; 0 where nothing was recorded.
    pub rows: u64,
    /// For each column the mean over what is known; `None` where nothing is.
    pub mean: Vec<Option<f64>>,
    /// The least that is known.
    pub min: Vec<Option<f64>>,
    /// The most that is known.
    pub max: Vec<Option<f64>>,
}

/// The most empty steps told one by one; of a longer gap only the first and the last are.
const EMPTY_STEPS_MAX: i64 = 86_400;

/// Gathers rows into steps. Rows come in the order they were taken; where the wall clock was set back a step can come twice.
#[derive(Debug)]
pub struct Stepper {
    step_ms: i64,
    begin_ms: Option<i64>,
    rows: u64,
    sums: Vec<Sum>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: u64,
    mean: f64,
    min: f64,
    max: f64,
}

impl Stepper {
    /// For steps of so many milliseconds, at least one, and so many columns.
    pub fn new(step_ms: i64, columns: usize) -> Self {
        Self { step_ms: step_ms.max(1), sums: vec![Sum::default(); columns], begin_ms: None, rows: 0 }
    }

    /// Takes a row, and first tells the steps that end before it.
    ///
    /// # Errors
    /// Those of `tell`.
    pub fn push<E>(
        &mut self,
        wall_ms: i64,
        values: impl Iterator<Item = Option<f64>>,
        mut tell: impl FnMut(Step) -> Result<(), E>,
    ) -> Result<(), E> {
        let begin_ms = wall_ms.div_euclid(self.step_ms).saturating_mul(self.step_ms);
        if self.begin_ms.is_some_and(|current| current != begin_ms) {
            let ended = self.begin_ms;
            self.finish(&mut tell)?;
            if let Some(ended) = ended {
                self.tell_empty(ended, begin_ms, &mut tell)?;
            }
        }
        self.begin_ms = Some(begin_ms);
        self.rows += 1;
        for (sum, value) in self.sums.iter_mut().zip(values) {
            let Some(value) = value else { continue };
            sum.count += 1;
            // Not by a sum: a few of the largest numbers would be infinite.
            sum.mean += value / sum.count as f64 - sum.mean / sum.count as f64;
            (sum.min, sum.max) = if sum.count == 1 { (value, value) } else { (sum.min.min(value), sum.max.max(value)) };
        }
        Ok(())
    }

    /// Tells the step that is under way.
    ///
    /// # Errors
    /// Those of `tell`.
    pub fn finish<E>(&mut self, mut tell: impl FnMut(Step) -> Result<(), E>) -> Result<(), E> {
        let Some(begin_ms) = self.begin_ms.take() else { return Ok(()) };
        let known = |value: fn(&Sum) -> f64| -> Vec<Option<f64>> {
            self.sums.iter().map(|sum| (sum.count > 0).then(|| value(sum))).collect()
        };
        let step = Step {
            begin_ms,
            rows: self.rows,
            mean: known(|sum| sum.mean),
            min: known(|sum| sum.min),
            max: known(|sum| sum.max),
        };
        self.rows = 0;
        self.sums.fill(Sum::default());
        tell(step)
    }

    fn tell_empty<E>(&self, ended: i64, next: i64, tell: &mut impl FnMut(Step) -> Result<(), E>) -> Result<(), E> {
        let nothing = vec![None; self.sums.len()];
        let empty =
            |begin_ms| Step { begin_ms, rows: 0, mean: nothing.clone(), min: nothing.clone(), max: nothing.clone() };
        let first = ended.saturating_add(self.step_ms);
        let between = next.saturating_sub(first) / self.step_ms;
        if between > EMPTY_STEPS_MAX {
            tell(empty(first))?;
            return tell(empty(next.saturating_sub(self.step_ms)));
        }
        (0..between).try_for_each(|at| tell(empty(first + at * self.step_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(step_ms: i64, rows: &[(i64, Option<f64>)]) -> Vec<Step> {
        let mut stepper = Stepper::new(step_ms, 1);
        let mut told = Vec::new();
        let mut tell = |step| -> Result<(), ()> {
            told.push(step);
            Ok(())
        };
        for (wall_ms, value) in rows {
            stepper.push(*wall_ms, [*value].into_iter(), &mut tell).unwrap();
        }
        stepper.finish(&mut tell).unwrap();
        told
    }

    #[test]
    fn a_step_is_the_mean_of_what_is_known_in_it() {
        let told = steps(
            10,
            &[(0, Some(1.0)), (5, Some(3.0)), (9, None), (10, None), (30, Some(f64::MAX)), (31, Some(f64::MAX))],
        );
        let means: Vec<_> = told.iter().map(|step| (step.begin_ms, step.rows, step.mean.clone())).collect();
        assert_eq!(
            means,
            [(0, 3, vec![Some(2.0)]), (10, 1, vec![None]), (20, 0, vec![None]), (30, 2, vec![Some(f64::MAX)])]
        );
        assert_eq!((told[0].min[0], told[0].max[0]), (Some(1.0), Some(3.0)));
    }

    #[test]
    fn clocks_set_back_or_far_ahead_neither_hang_nor_hide_a_row() {
        let begins = |rows: &[(i64, Option<f64>)]| steps(10, rows).iter().map(|step| step.begin_ms).collect::<Vec<_>>();
        assert_eq!(begins(&[(100, None), (-5, None), (100, None)])[..2], [100, -10]);
        assert_eq!(begins(&[(0, None), (i64::MAX, None)]).len(), 4);
        assert_eq!(begins(&[(i64::MIN, None), (i64::MAX, None)]).len(), 4);
    }
}
