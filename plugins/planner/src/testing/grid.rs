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

/// Links of 1 to 1000 Mbit/s x round trips of 1 and 20 ms x this host 1, 4 and 16 times slower than the other x two networks.
pub fn grid() -> Vec<Cell> {
    let networks = [
        ("resnet18", Network::resnet18(), Speed { first: 12e6, more: 9e6 }),
        ("resnet50", Network::resnet50(4), Speed { first: 30e6, more: 20e6 }),
    ];
    let mut cells = vec![];
    for (name, network, strong) in networks {
        for slower in [1.0, 4.0, 16.0] {
            for mbit in [1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 1000.0] {
                for rtt_ms in [1.0, 20.0] {
                    cells.push(Cell {
                        name: format!("{name}, {slower}x slower, {mbit} Mbit/s, {rtt_ms} ms"),
                        network: network.clone(),
                        speeds: [strong.slower(slower), strong],
                        net: Net { mbit, rtt_ms },
                    });
                }
            }
        }
    }
    cells
}
