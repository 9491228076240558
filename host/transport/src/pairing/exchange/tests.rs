use super::*;
use crate::peers::Rights;

const HOST: HostKey = HostKey([1; 32]);
const GUEST: HostKey = HostKey([2; 32]);
const BETWEEN: HostKey = HostKey([3; 32]);

fn code(text: &str) -> Code {
    text.parse().unwrap()
}

fn right() -> Code {
    code("K7QF-2M9X-8RTD")
}

fn about(name: &str) -> About {
    About { name: name.into(), peer_port: Some(7860), grants: Rights { execute: true, fetch_models: true } }
}

fn guest(code: Code, host: HostKey) -> (GuestSide, Message) {
    GuestSide::new(about("guest"), code, host, GUEST, [20; 32])
}

fn host(guest: HostKey, nonce: u8) -> HostSide {
    HostSide::new(about("host"), HOST, guest, [nonce; 32])
}

fn said(next: Next) -> Message {
    match next {
        Next::Say(message) => message,
        other => panic!("not something said: {other:?}"),
    }
}

/// Everything up to the guest's proof.
fn until_proof(side: &mut HostSide, guard: &mut Guard, code: Code) -> (GuestSide, Message) {
    let (mut guest, hello) = guest(code, HOST);
    let challenge = said(side.hear(hello, guard));
    let proof = said(guest.hear(challenge));
    (guest, proof)
}

#[test]
fn both_keep_each_other() {
    let mut guard = Guard::new(right());
    let mut host = host(GUEST, 10);
    let (mut guest, proof) = until_proof(&mut host, &mut guard, right());
    assert!(!host.proven());
    let accept = said(host.hear(proof, &mut guard));
    assert!(host.proven());
    let confirm = said(guest.hear(accept));
    assert_eq!(host.hear(confirm, &mut guard), Next::Keep(about("guest")));
    assert_eq!(guest.hear(Message::Done), Next::Keep(about("host")));
    assert!(host.proven() && !guard.exhausted());
}

#[test]
fn a_wrong_code_costs_a_try_and_five_void_it() {
    let mut guard = Guard::new(right());
    for tries_left in (0..TRIES_MAX).rev() {
        assert!(!guard.exhausted());
        let mut host = host(GUEST, 10);
        let (mut guest, proof) = until_proof(&mut host, &mut guard, code("0000-0000-0000"));
        let refusal = Refusal::WrongCode { tries_left };
        assert_eq!(host.hear(proof, &mut guard), Next::Refuse(refusal));
        assert_eq!(guest.hear(Message::Refused(refusal)), Next::Refused(refusal));
        assert!(!host.proven());
    }
    assert!(guard.exhausted());
    let mut host = host(GUEST, 10);
    let (_, proof) = until_proof(&mut host, &mut guard, right());
    assert_eq!(host.hear(proof, &mut guard), Next::Refuse(Refusal::Closed), "the right one is too late");
}

#[test]
fn a_code_works_once() {
    let mut guard = Guard::new(right());
    let mut first = host(GUEST, 10);
    let (_, proof) = until_proof(&mut first, &mut guard, right());
    said(first.hear(proof, &mut guard));
    let mut second = host(GUEST, 11);
    let (_, proof) = until_proof(&mut second, &mut guard, right());
    assert_eq!(second.hear(proof, &mut guard), Next::Refuse(Refusal::Closed));
    assert!(first.proven() && !second.proven());
}

#[test]
fn what_was_heard_before_proves_nothing_later() {
    let mut host_then = host(GUEST, 10);
    let mut guard = Guard::new(right());
    let (_, proof) = until_proof(&mut host_then, &mut guard, right());
    let (mut guest_now, _) = guest(right(), HOST);
    let accept = said(host_then.hear(proof.clone(), &mut guard));
    // To a host with another nonce, and to a guest that heard another one.
    let (mut host_now, mut guard_now) = (host(GUEST, 11), Guard::new(right()));
    said(host_now.hear(Message::Hello { nonce: [20; 32] }, &mut guard_now));
    assert!(matches!(host_now.hear(proof, &mut guard_now), Next::Refuse(Refusal::WrongCode { .. })));
    said(guest_now.hear(Message::Challenge { nonce: [11; 32] }));
    assert_eq!(guest_now.hear(accept), Next::NotProven);
}

#[test]
fn whoever_is_in_between_gets_nowhere() {
    // It passes every message on, but each side sees its certificate instead of the other's.
    let (mut guard, mut host) = (Guard::new(right()), host(BETWEEN, 10));
    let (mut guest, hello) = guest(right(), BETWEEN);
    let challenge = said(host.hear(hello, &mut guard));
    let proof = said(guest.hear(challenge));
    assert!(matches!(host.hear(proof.clone(), &mut guard), Next::Refuse(Refusal::WrongCode { .. })));
    // The guest's own proof, sent back to it, is not the host's.
    let Message::Proof { proof, .. } = proof else { panic!("{proof:?}") };
    assert_eq!(guest.hear(Message::Accept { proof, about: about("host") }), Next::NotProven);
}

#[test]
fn a_host_does_not_pair_with_itself() {
    let mut guard = Guard::new(right());
    let next = host(HOST, 10).hear(Message::Hello { nonce: [20; 32] }, &mut guard);
    assert_eq!(next, Next::Refuse(Refusal::Itself));
}

#[test]
fn out_of_turn_nothing_is_kept_and_no_try_is_lost() {
    let proof = [0; 32];
    let all = || {
        [
            Message::Hello { nonce: [0; 32] },
            Message::Challenge { nonce: [0; 32] },
            Message::Proof { proof, about: about("x") },
            Message::Accept { proof, about: about("x") },
            Message::Confirm,
            Message::Done,
        ]
    };
    for (index, message) in all().into_iter().enumerate() {
        let mut guard = Guard::new(right());
        if index != 0 {
            assert_eq!(host(GUEST, 1).hear(message.clone(), &mut guard), Next::Refuse(Refusal::Unexpected));
        }
        let mut challenged = host(GUEST, 1);
        said(challenged.hear(Message::Hello { nonce: [0; 32] }, &mut guard));
        if index != 2 {
            assert_eq!(challenged.hear(message.clone(), &mut guard), Next::Refuse(Refusal::Unexpected));
            assert_eq!(challenged.hear(Message::Confirm, &mut guard), Next::Refuse(Refusal::Unexpected));
        }
        assert_eq!(guard.tries_left, TRIES_MAX);
        if index != 1 {
            assert_eq!(guest(right(), HOST).0.hear(message.clone()), Next::Unexpected);
        }
        let (mut proved, _) = guest(right(), HOST);
        said(proved.hear(Message::Challenge { nonce: [0; 32] }));
        if index != 3 {
            assert_eq!(proved.hear(message), Next::Unexpected);
        }
    }
}
