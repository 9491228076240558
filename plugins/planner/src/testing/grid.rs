//! The cells that policies are compared in.

use super::{Network, Speed};

/// A link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Net {
    /// Megabits a second, each way.
    pub mbit: f64,
    /// Round trip in milliseconds.
    pub rtt_ms: f64,
}

/// A weak host, a strong one, and the link between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// For people.
    pub name: String,
    /// What is served.
    pub network: Network,
    /// This host's device and the other's.
    pub speeds: [Speed; 2],
    /// Between them.
    pub net: Net,
}

/// What is compared: a network with what the strong host takes for it.
type Subject = (&'static str, Network, Speed);

/// ResNets of about the size of those that are served in images a second.
fn resnets() -> [Subject; 2] {
    [
        ("resnet18", Network::resnet18(), Speed { first: 12e6, more: 9e6 }),
        ("resnet50", Network::resnet50(4), Speed { first: 30e6, more: 20e6 }),
    ]
}

/// A net of microseconds, for which a round trip is as long as tens of rows.
fn digits() -> Subject {
    ("digits", Network::digits(), Speed { first: 3e5, more: 2e5 })
}

fn cells(subjects: &[Subject], slower: &[f64], mbits: &[f64], rtts: &[f64]) -> Vec<Cell> {
    let mut cells = vec![];
    for (name, network, strong) in subjects {
        for slower in slower {
            for mbit in mbits {
                for rtt_ms in rtts {
                    cells.push(Cell {
                        name: format!("{name}, {slower}x slower, {mbit} Mbit/s, {rtt_ms} ms"),
                        network: network.clone(),
                        speeds: [strong.slower(*slower), *strong],
                        net: Net { mbit: *mbit, rtt_ms: *rtt_ms },
                    });
                }
            }
        }
    }
    cells
}

/// Links of 1 to 1000 Mbit/s x round trips of 1 and 20 ms x this host 1, 4 and 16 times slower than the other x two ResNets.
pub fn grid() -> Vec<Cell> {
    let mbits = [1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 1000.0];
    cells(&resnets(), &[1.0, 4.0, 16.0], &mbits, &[1.0, 20.0])
}

/// The digits net, this host 4 and 16 times slower, on links of 10 to 200 Mbit/s.
pub fn small() -> Vec<Cell> {
    cells(&[digits()], &[4.0, 16.0], &[10.0, 50.0, 200.0], &[1.0, 20.0])
}

/// Cells that no rule of a policy was tried on before it was as it is.
pub fn held_out() -> Vec<Cell> {
    let [eighteen, fifty] = resnets();
    cells(&[eighteen, fifty, digits()], &[2.5, 9.0], &[3.0, 17.0, 75.0, 350.0], &[6.0, 45.0])
}
