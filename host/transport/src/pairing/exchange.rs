//! Pairing as a decision: what each side answers to what it hears. No socket, no clock, no randomness.
//!
//! ```text
//!   guest                                   host (shows the code)
//!   Hello { nonce }            ──────────>
//!                              <──────────  Challenge { nonce }
//!   Proof { proof, about }     ──────────>  right? the code is used up from here on; wrong? one try less
//!   right?                     <──────────  Accept { proof, about }
//!   Confirm                    ──────────>  keeps the guest
//!   keeps the host             <──────────  Done
//! ```
//!
//! **Invariants.** The guest proves first, so that whoever merely connects learns nothing of the code. Nobody is kept who
//! did not prove the code on this connection.

use super::code::{Code, Ends, NONCE_BYTES, Side};
use super::message::{About, Message, Refusal};
use bps_wire::HostKey;

/// Wrong proofs after which a code is void.
pub(super) const TRIES_MAX: u8 = 5;

/// What a side does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Say this and listen on.
    Say(Message),
    /// The other side has proven itself: write down what it said. A host then says [`Message::Done`].
    Keep(About),
    /// Say why not, and hang up.
    Refuse(Refusal),
    /// Hang up: the waiting host refused.
    Refused(Refusal),
    /// Hang up: whoever answered does not know the code.
    NotProven,
    /// Hang up: that is not what is said at this point.
    Unexpected,
}

/// The code of one `bps pair`, over all connections to it.
#[derive(Debug)]
pub(super) struct Guard {
    code: Code,
    tries_left: u8,
    used: bool,
}

impl Guard {
    /// A fresh one.
    pub(super) fn new(code: Code) -> Self {
        Self { code, tries_left: TRIES_MAX, used: false }
    }

    /// Nobody can pair any more, because of wrong tries.
    pub(super) fn exhausted(&self) -> bool {
        self.tries_left == 0
    }

    /// Whether a guest knows the code; a right proof uses it up, a wrong one costs a try.
    fn admit(&mut self, ends: &Ends, proof: &[u8; 32]) -> Result<[u8; 32], Refusal> {
        if self.used || self.exhausted() {
            return Err(Refusal::Closed);
        }
        if self.code.proves(Side::Guest, ends, proof) {
            self.used = true;
            return Ok(self.code.proof(Side::Host, ends));
        }
        self.tries_left -= 1;
        Err(Refusal::WrongCode { tries_left: self.tries_left })
    }
}

/// The side that showed the code, on one connection.
#[derive(Debug)]
pub(super) struct HostSide {
    about: About,
    ends: Ends,
    stage: HostStage,
}

#[derive(Debug)]
enum HostStage {
    /// Waits for a hello.
    Fresh,
    /// Waits for the guest's proof.
    Challenged,
    /// Waits for the guest to confirm.
    Proven(About),
    /// Waits for nothing.
    Over,
}

impl HostSide {
    /// `host` is this one, `guest` who shows a certificate on the connection.
    pub(super) fn new(about: About, host: HostKey, guest: HostKey, nonce: [u8; NONCE_BYTES]) -> Self {
        let ends = Ends { host, guest, host_nonce: nonce, guest_nonce: [0; NONCE_BYTES] };
        Self { about, ends, stage: HostStage::Fresh }
    }

    /// Whether this connection's guest used the code up.
    pub(super) fn proven(&self) -> bool {
        matches!(self.stage, HostStage::Proven(_))
    }

    /// Answers.
    pub(super) fn hear(&mut self, message: Message, guard: &mut Guard) -> Next {
        match (std::mem::replace(&mut self.stage, HostStage::Over), message) {
            (HostStage::Fresh, Message::Hello { .. }) if self.ends.host == self.ends.guest => {
                Next::Refuse(Refusal::Itself)
            }
            (HostStage::Fresh, Message::Hello { nonce }) => {
                self.ends.guest_nonce = nonce;
                self.stage = HostStage::Challenged;
                Next::Say(Message::Challenge { nonce: self.ends.host_nonce })
            }
            (HostStage::Challenged, Message::Proof { proof, about }) => match guard.admit(&self.ends, &proof) {
                Ok(proof) => {
                    self.stage = HostStage::Proven(about);
                    Next::Say(Message::Accept { proof, about: self.about.clone() })
                }
                Err(refusal) => Next::Refuse(refusal),
            },
            // Stays proven: should keeping it fail, the code is used up all the same.
            (HostStage::Proven(about), Message::Confirm) => {
                self.stage = HostStage::Proven(about.clone());
                Next::Keep(about)
            }
            (stage, _) => {
                if let HostStage::Proven(_) = stage {
                    self.stage = stage;
                }
                Next::Refuse(Refusal::Unexpected)
            }
        }
    }
}

/// The side that dialled.
#[derive(Debug)]
pub(super) struct GuestSide {
    about: About,
    code: Code,
    ends: Ends,
    stage: GuestStage,
}

#[derive(Debug)]
enum GuestStage {
    /// Waits for a challenge.
    Greeted,
    /// Waits for the host's proof.
    Proved,
    /// Waits until it is kept.
    Confirmed(About),
    /// Waits for nothing.
    Over,
}

impl GuestSide {
    /// `guest` is this one, `host` who shows a certificate on the connection. Also gives what to say first.
    pub(super) fn new(
        about: About,
        code: Code,
        host: HostKey,
        guest: HostKey,
        nonce: [u8; NONCE_BYTES],
    ) -> (Self, Message) {
        let ends = Ends { host, guest, host_nonce: [0; NONCE_BYTES], guest_nonce: nonce };
        (Self { about, code, ends, stage: GuestStage::Greeted }, Message::Hello { nonce })
    }

    /// Answers.
    pub(super) fn hear(&mut self, message: Message) -> Next {
        match (std::mem::replace(&mut self.stage, GuestStage::Over), message) {
            (_, Message::Refused(refusal)) => Next::Refused(refusal),
            (GuestStage::Greeted, Message::Challenge { nonce }) => {
                self.ends.host_nonce = nonce;
                self.stage = GuestStage::Proved;
                let proof = self.code.proof(Side::Guest, &self.ends);
                Next::Say(Message::Proof { proof, about: self.about.clone() })
            }
            (GuestStage::Proved, Message::Accept { proof, about }) => {
                if !self.code.proves(Side::Host, &self.ends, &proof) {
                    return Next::NotProven;
                }
                self.stage = GuestStage::Confirmed(about);
                Next::Say(Message::Confirm)
            }
            (GuestStage::Confirmed(about), Message::Done) => Next::Keep(about),
            _ => Next::Unexpected,
        }
    }
}

#[cfg(test)]
mod tests;
