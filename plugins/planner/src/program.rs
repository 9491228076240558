//! A small linear program: the most that can flow through shared resources, and what each is worth then.

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimum {
    /// The largest total flow.
    pub flow: f64,
    /// The flow of each column.
    pub amounts: Vec<f64>,
    /// How much more would flow if a resource had one unit more; their sum is `flow`.
    pub prices: Vec<f64>,
}

/// More steps than any program of this size takes; a bound, not a limit that is met.
const STEPS_MAX: usize = 200;

/// Maximises the sum of the amounts so that no resource gives out more than 1. `loads[column][resource]` is what a unit of
/// a column's flow takes of a resource. None where some column takes nothing, which would flow without bound.
///
/// The simplex method on a full tableau: a dozen resources and a few hundred columns take tens of microseconds.
pub fn maximise(loads: &[Vec<f64>], resource_count: usize) -> Option<Optimum> {
    let (n, m) = (loads.len(), resource_count);
    // Rows are resources with their slack; the last row is the objective, the last column what is left of each resource.
    let width = n + m + 1;
    let mut rows = vec![vec![0.0; width]; m + 1];
    for (column, load) in loads.iter().enumerate() {
        for (resource, amount) in load.iter().enumerate().take(m) {
            rows[resource][column] = *amount;
        }
        rows[m][column] = -1.0;
    }
    for (resource, row) in rows.iter_mut().enumerate().take(m) {
        (row[n + resource], row[width - 1]) = (1.0, 1.0);
    }
    let mut basis: Vec<usize> = (n..n + m).collect();
    for step in 0..STEPS_MAX {
        let Some(entering) = entering(&rows[m], width - 1, step) else { break };
        let leaving = leaving(&rows, entering, &basis)?;
        pivot(&mut rows, leaving, entering);
        basis[leaving] = entering;
    }
    let mut amounts = vec![0.0; n];
    for (row, column) in rows.iter().zip(&basis).filter(|(_, column)| **column < n) {
        amounts[*column] = row[width - 1];
    }
    let prices = rows[m][n..n + m].iter().map(|price| price.max(0.0)).collect();
    Some(Optimum { flow: rows[m][width - 1], amounts, prices })
}

/// The column that gains most; after many steps the first that gains anything, which cannot go round in circles.
fn entering(objective: &[f64], count: usize, step: usize) -> Option<usize> {
    let gains = (0..count).filter(|column| objective[*column] < -1e-9);
    if step < STEPS_MAX / 2 {
        gains.min_by(|a, b| objective[*a].total_cmp(&objective[*b]))
    } else {
        gains.into_iter().next()
    }
}

/// The resource that is used up first.
fn leaving(rows: &[Vec<f64>], entering: usize, basis: &[usize]) -> Option<usize> {
    let last = rows[0].len() - 1;
    let ratio = |row: usize| rows[row][last] / rows[row][entering];
    (0..basis.len())
        .filter(|row| rows[*row][entering] > 1e-12)
        .min_by(|a, b| ratio(*a).total_cmp(&ratio(*b)).then(basis[*a].cmp(&basis[*b])))
}

fn pivot(rows: &mut [Vec<f64>], leaving: usize, entering: usize) {
    let scale = rows[leaving][entering];
    rows[leaving].iter_mut().for_each(|value| *value /= scale);
    let pivot = rows[leaving].clone();
    for (at, row) in rows.iter_mut().enumerate() {
        let factor = row[entering];
        if at != leaving && factor != 0.0 {
            row.iter_mut().zip(&pivot).for_each(|(value, by)| *value -= factor * by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_and_prices_of_small_programs() {
        // (loads, flow)
        let cases: [(&[&[f64]], f64); 4] = [
            (&[&[2.0]], 0.5),
            (&[&[2.0, 0.0], &[0.0, 4.0]], 0.75), // two devices, each for itself
            (&[&[1.0, 3.0], &[3.0, 1.0]], 0.5),  // half of each way
            (&[&[1.0, 1.0], &[0.0, 0.5], &[2.0, 0.0]], 2.5), // the first is not worth its place
        ];
        for (loads, flow) in cases {
            let loads: Vec<Vec<f64>> = loads.iter().map(|load| load.to_vec()).collect();
            let found = maximise(&loads, loads[0].len()).expect("bounded");
            assert!((found.flow - flow).abs() < 1e-9, "{loads:?}: {found:?}");
            assert!((found.amounts.iter().sum::<f64>() - flow).abs() < 1e-9);
            assert!((found.prices.iter().sum::<f64>() - flow).abs() < 1e-9, "duality: {found:?}");
            for load in &loads {
                let cost: f64 = load.iter().zip(&found.prices).map(|(load, price)| load * price).sum();
                assert!(cost >= 1.0 - 1e-9, "no column is worth more than it gives: {found:?}");
            }
        }
    }

    #[test]
    fn what_takes_nothing_is_refused() {
        assert_eq!(maximise(&[vec![0.0, 0.0]], 2), None);
    }
}
