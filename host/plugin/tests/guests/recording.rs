//! Recordings: what is written is read and replays; what is damaged is read up to there.

use super::{CORPUS, ENGINE};
use bps_plugin::recording::{Ending, Reader, Record, Recorder, replay};
use bps_plugin::{LoadedPolicy, prebuilt};
use bps_sched::{Briefing, CallLog, Fault, FaultClass, LogEntry, Policy};
use bps_types::Nanos;
use std::io::Write;
use std::sync::{Arc, Mutex};

/// A file in memory.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("unpoisoned").write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A run of `loaded` over the corpus, recorded; `lie` changes a recorded decision.
fn record(loaded: &LoadedPolicy, config: &str, lie: bool) -> Vec<u8> {
    let sink = Sink::default();
    let (mut recorder, handle) = Recorder::to(sink.clone()).expect("a recorder");
    handle.component(loaded);
    let mut policy = loaded.instantiate(config, 9).expect("configured");
    let briefing = Briefing { world: CORPUS.world.clone(), tables: CORPUS.tables.clone(), ..Briefing::default() };
    briefing.tell(&mut policy).expect("told");
    let (generation, seed, digest) = (4, 9, loaded.digest());
    let manifest = loaded.manifest();
    let activated = LogEntry::Activated { generation, digest, manifest, config, seed, briefing: &briefing };
    recorder.log(Nanos(1), activated);
    for (at, snapshot) in CORPUS.snapshots.iter().enumerate() {
        let mut result = policy.decide(snapshot);
        if let (Ok(decision), true) = (&mut result, lie && at == 7) {
            decision.wake_after = Some(Nanos(123_456_789));
        }
        recorder.log(snapshot.now, LogEntry::Decide { generation, snapshot, result: result.as_ref() });
        if let Err(fault) = &result {
            recorder.log(snapshot.now, LogEntry::Dropped { generation, fault: Some(fault) });
            break;
        }
    }
    if policy.dead().is_none() {
        let saved = policy.save();
        let result = saved.as_ref().map(Option::as_deref);
        recorder.log(Nanos(2), LogEntry::Save { generation, result });
    }
    assert_eq!(handle.lost(), 0);
    drop(recorder);
    sink.0.lock().expect("unpoisoned").clone()
}

fn batching() -> LoadedPolicy {
    ENGINE.load(prebuilt::find("batching").expect("there").wasm).expect("loads")
}

#[test]
fn a_recording_replays_to_identical_decisions() {
    let bytes = record(&batching(), "", false);
    let report = replay(Reader::new(&bytes[..]).expect("a recording"), &ENGINE);
    assert!(report.is_identical(), "{report:?}");
    assert_eq!((report.decisions, report.decisions_equal), (80, 80));
    assert_eq!((report.ending.as_str(), report.skipped, report.other_calls), ("closed in order", 0, 1));
}

#[test]
fn a_changed_decision_is_found() {
    let bytes = record(&batching(), "", true);
    let report = replay(Reader::new(&bytes[..]).expect("a recording"), &ENGINE);
    assert!(!report.is_identical());
    let [difference] = &report.differences[..] else { panic!("{report:?}") };
    assert_eq!((difference.call, difference.generation), ("decide", 4));
    assert!(difference.recorded.contains("123456789"), "{difference:?}");
}

#[test]
fn a_fault_is_replayed_by_its_class_and_a_deadline_is_not() {
    let bytes = record(&super::CHAOS, r#"{"mode":"unreachable","after":9}"#, false);
    let report = replay(Reader::new(&bytes[..]).expect("a recording"), &ENGINE);
    assert!(report.is_identical() && report.decisions == 10, "{report:?}");
    let bytes = record(&super::CHAOS, r#"{"mode":"loop","after":9}"#, false);
    let report = replay(Reader::new(&bytes[..]).expect("a recording"), &ENGINE);
    assert_eq!((report.decisions, report.skipped, report.differing), (9, 1, 0), "{report:?}");
}

#[test]
fn every_kind_of_entry_comes_back() {
    let sink = Sink::default();
    let (mut recorder, handle) = Recorder::to(sink.clone()).expect("a recorder");
    let fault = Fault::new(FaultClass::Trap, "why");
    let (generation, world) = (1, &CORPUS.world);
    let origin = bps_types::policy::Origin { name: "n".into(), version: "v".into(), state_schema: "s".into() };
    recorder.log(Nanos(1), LogEntry::World { generation, world, result: Ok(()) });
    recorder.log(Nanos(2), LogEntry::Table { generation, table: &CORPUS.tables[0], result: Err(&fault) });
    recorder.log(Nanos(3), LogEntry::Observe { generation, outcomes: &[], dropped: 5, result: Ok(()) });
    recorder.log(Nanos(4), LogEntry::Save { generation, result: Ok(Some(b"state")) });
    recorder.log(Nanos(5), LogEntry::Restore { generation, origin: &origin, blob: b"state", result: Ok(true) });
    recorder.log(Nanos(6), LogEntry::Dropped { generation, fault: Some(&fault) });
    handle.flush();
    let unfinished = sink.0.lock().expect("unpoisoned").clone();
    drop(recorder);
    let mut reader = Reader::new(&unfinished[..]).expect("a recording");
    let records: Vec<Record<'_>> = reader.by_ref().collect();
    assert_eq!(reader.ending(), Some(&Ending::Truncated), "flushed, not closed");
    let [
        Record::World { world: told, .. },
        Record::Table { result: Err(failed), .. },
        Record::Observe { dropped, .. },
        rest @ ..,
    ] = &records[..]
    else {
        panic!("{records:?}")
    };
    assert_eq!((told.as_ref(), failed.as_ref(), *dropped), (world, &fault, 5));
    let [
        Record::Save { result: Ok(Some(saved)), .. },
        Record::Restore { blob, result: Ok(true), .. },
        Record::Dropped { .. },
    ] = rest
    else {
        panic!("{rest:?}")
    };
    assert_eq!((&saved[..], &blob[..]), (&b"state"[..], &b"state"[..]));
}

#[test]
fn damage_ends_a_recording_and_nothing_else() {
    let whole = record(&batching(), "", false);
    let count = Reader::new(&whole[..]).expect("a recording").count();
    // The last bytes are the compressed frame's own end, after all records.
    for length in (0..whole.len() - 8).step_by(whole.len() / 40) {
        if let Ok(mut reader) = Reader::new(&whole[..length]) {
            assert!(reader.by_ref().count() <= count);
            assert_ne!(reader.ending(), Some(&Ending::Closed), "{length} of {} bytes", whole.len());
        }
    }
    for at in (0..whole.len()).step_by(whole.len() / 60) {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        if let Ok(mut reader) = Reader::new(&changed[..]) {
            assert!(reader.by_ref().count() <= count);
        }
    }
}

#[test]
fn lengths_that_lie_allocate_nothing() {
    let mut bytes = b"BPSREC\x02\x00".to_vec();
    bytes.extend(zstd::encode_all(&[0xff_u8; 64][..], 1).expect("compressed"));
    let mut reader = Reader::new(&bytes[..]).expect("a header");
    assert_eq!(reader.by_ref().count(), 0);
    assert!(matches!(reader.ending(), Some(Ending::Corrupt(reason)) if reason.contains("bytes")));
    assert!(Reader::new(&b"BPSREC\x01\x00"[..]).is_err(), "another version");
    assert!(Reader::new(&b"GIF89a\x01\x00"[..]).is_err(), "something else");
}
