//! The merge of flags, file and defaults.

use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    serve: ServeArgs,
}

fn flags(words: &str) -> ServeArgs {
    Line::try_parse_from(std::iter::once("bps").chain(words.split_whitespace())).unwrap().serve
}

fn file(text: &str) -> FileConfig {
    FileConfig::parse(text, Path::new("bps.toml")).unwrap()
}

fn merged(words: &str, text: &str) -> Settings {
    Settings::merge(flags(words), file(text)).unwrap()
}

#[test]
fn defaults() {
    let settings = merged("", "");
    assert_eq!((settings.listen.as_str(), settings.policy.as_str()), (DEFAULT_LISTEN, "bps"));
    assert_eq!(settings.admin.to_string(), "http://127.0.0.1:8001");
    assert_eq!((settings.policy_config.as_str(), settings.seed, settings.activate_on_drop), ("", 0, false));
    assert_eq!(settings.model_control, ModelControl::None);
    assert_eq!(settings.drain_timeout, Duration::from_secs(30));
}

#[test]
fn flags_win_over_the_file() {
    let file = "listen = '0.0.0.0:9000'\nmodels = ['a.onnx']\ndevices = ['cpu']\ndrain_timeout_s = 2\n\
                model_control = 'explicit'\n[policy]\nname = 'round-robin'\nseed = 4\nconfig = '{\"wait_ms\":2}'\n[limits]\nqueue_requests_max = 5\n";
    let kept = merged("", file);
    assert_eq!((kept.listen.as_str(), kept.policy.as_str(), kept.seed), ("0.0.0.0:9000", "round-robin", 4));
    assert_eq!((kept.models, kept.devices), (vec![PathBuf::from("a.onnx")], vec!["cpu".to_owned()]));
    assert_eq!((kept.policy_config.as_str(), kept.sched.queue_requests_max), (r#"{"wait_ms":2}"#, 5));
    assert_eq!((kept.drain_timeout, kept.model_control), (Duration::from_secs(2), ModelControl::Explicit));

    let words = "--listen 127.0.0.1:1 --model b.onnx --models dir --device gpu:0 --policy local-only --queue-max 7 \
                 --drain-timeout 500ms --model-control none --seed 9";
    let over = merged(words, file);
    assert_eq!((over.listen.as_str(), over.policy.as_str(), over.seed), ("127.0.0.1:1", "local-only", 9));
    assert_eq!(over.models, ["b.onnx", "dir"].map(PathBuf::from));
    assert_eq!((over.devices, over.sched.queue_requests_max), (vec!["gpu:0".to_owned()], 7));
    assert_eq!((over.drain_timeout, over.model_control), (Duration::from_millis(500), ModelControl::None));
    assert_eq!(over.policy_config, "", "the file's configuration is for the file's policy");
}

#[test]
fn a_file_can_be_overruled_to_false() {
    let file = "activate_on_drop = true\npolicies = 'p'\n";
    assert!(merged("", file).activate_on_drop);
    assert!(!merged("--activate-on-drop=false", file).activate_on_drop);
    assert!(merged("--activate-on-drop --policies q", "").activate_on_drop);
}

#[test]
fn contradictions_are_usage_errors() {
    let cases = [
        ("--tls-cert c.pem", "", "--tls-key"),
        ("net.onnx", "", "bps serve --model net.onnx"),
        ("/", "", "bps serve --models /"),
        ("--activate-on-drop", "", "--policies"),
        ("--policy-config [1]", "", "JSON object"),
        ("--policy-config {", "", "not JSON"),
        ("--policy-config @/nowhere.json", "", "/nowhere.json"),
        ("--policy-config @/dev/zero", "", "1048576 bytes"),
        ("--listen 8000", "", "HOST:PORT"),
        ("--listen ::1:99999", "", "HOST:PORT"),
        ("", "listen = 'localhost:http'", "HOST:PORT"),
        ("", "admin = 'unix:'", "admin"),
        ("", "[policy]\nname = 'batching'\nconfig = '{'", "[policy] config"),
    ];
    for (words, text, expected) in cases {
        let error = Settings::merge(flags(words), file(text)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
}

#[test]
fn a_policy_of_the_command_line_is_the_one() {
    let file = "[policy]\nname = 'batching'\n";
    assert!(!merged("", file).policy_strict);
    assert!(!merged("", "").policy_strict);
    assert!(merged("--policy local-only", file).policy_strict);
    assert!(merged("--policy-config {}", file).policy_strict);
}

#[test]
fn addresses() {
    for good in ["127.0.0.1:8000", "localhost:0", "[::1]:80", "[::]:65535"] {
        assert!(is_host_port(good), "{good:?}");
    }
    for bad in ["", ":80", "a", "a:", "a:65536", "::1:80", "[::1]", "[x]:80", "http://a:80", "a b:80"] {
        assert!(!is_host_port(bad), "{bad:?}");
    }
}

#[test]
fn no_queue_at_all_is_refused() {
    assert!(Line::try_parse_from(["bps", "--queue-max", "0"]).is_err());
}

#[test]
fn a_wrong_file_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bps.toml");
    fs::write(&path, "listen = 'a:1'\npolicee = 'batching'\n").unwrap();
    let error = read_file(Some(&path)).unwrap_err().to_string();
    assert!(error.contains("bps.toml:2") && error.contains("policee"), "{error}");
    assert!(read_file(Some(&dir.path().join("none.toml"))).unwrap_err().to_string().contains("none.toml"));
}

#[test]
fn paths_are_relative_to_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.toml");
    fs::write(&path, "models = ['m', '/abs']\nrecord = 'r'\n[policy]\nname = 'mine.wasm'\n").unwrap();
    let (file, found) = read_file(Some(&path)).unwrap();
    assert_eq!(found.as_deref(), Some(path.as_path()));
    let settings = Settings::merge(flags(""), file).unwrap();
    assert_eq!(settings.models, [dir.path().join("m"), PathBuf::from("/abs")]);
    assert_eq!(settings.record, Some(dir.path().join("r")));
    assert_eq!(settings.policy, dir.path().join("mine.wasm").to_string_lossy());
}

#[test]
fn policy_configuration_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        policy_config(&format!("@{}", dir.path().join(name).display()), "--config")
    };
    assert_eq!(at("a.json", r#"{"a": 1}"#).unwrap(), r#"{"a": 1}"#);
    assert_eq!(at("a.toml", "a = 1\n").unwrap(), r#"{"a":1}"#);
    assert!(at("b.toml", "a = \n").unwrap_err().to_string().contains("b.toml"));
}

#[test]
fn spans() {
    let ok = ["500ms", "2s", "1.5m", "30", "1h"].map(|t| span(t).unwrap().as_millis());
    assert_eq!(ok, [500, 2_000, 90_000, 30_000, 3_600_000]);
    for bad in ["", "s", "-1s", "1y", "nans", "1e400s", "NaN"] {
        assert!(span(bad).is_err(), "{bad:?}");
    }
    assert!(span_not_zero("0s").is_err() && span_not_zero("x").is_err());
    assert_eq!(span_not_zero("1ms").unwrap().as_millis(), 1);
}

#[test]
fn shares_of_one_or_more_say_their_unit() {
    for (text, wanted) in
        [("0.5%", 0.005), ("0.005", 0.005), ("0", 0.0), ("100%", 1.0), (" 1 % ", 0.01), ("0.99", 0.99)]
    {
        assert_eq!(share(text), Ok(wanted), "{text}");
    }
    for (text, part) in
        [("1", "write 1% or 100%"), ("1.0", "write 1% or 100%"), ("5", "write 5%;"), ("100", "write 100%;")]
    {
        let error = share(text).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    for bad in ["", "-1", "101", "101%", "NaN", "x"] {
        assert!(share(bad).unwrap_err().contains("0.005"), "{bad:?}");
    }
}

#[test]
fn other_hosts_are_met_where_flags_file_and_pairing_say() {
    let folder = tempfile::tempdir().unwrap();
    let state = format!("--state-dir {}", folder.path().display());
    let peers = |words: &str, text: &str| merged(&format!("{state} {words}"), text).peers.unwrap();
    let by_default = peers("", "");
    assert_eq!((by_default.listen, by_default.listen_once_paired), (Some(DEFAULT_PEER_LISTEN), true));
    let text = "[peers]\nname = 'edge'\nlisten = '127.0.0.1:1'\ncarrier = 'quic'\nwindow = 7\ndisk_bytes_max = 9\n";
    let of_file = PeersConfig {
        name: "edge".into(),
        listen: Some("127.0.0.1:1".parse().unwrap()),
        listen_once_paired: false,
        carrier: bps_transport::CarrierChoice::Quic,
        window: 7,
        disk_bytes_max: 9,
    };
    assert_eq!(peers("", text), of_file);
    let flagged = peers("--name strong --peer-listen none --carrier tcp", text);
    assert_eq!((flagged.name.as_str(), flagged.listen), ("strong", None));
    assert_eq!((flagged.carrier, flagged.window), (bps_transport::CarrierChoice::Tcp, 7));
    let serves_others = || merged(&format!("{state} --peer-listen none"), "").has_peers();
    assert!(!serves_others() && !merged(&state, "").has_peers(), "nobody is paired");
    let peer = bps_transport::Peer {
        key: bps_transport::Identity::load_or_make(folder.path()).unwrap().key(),
        name: "other".into(),
        address: Some("127.0.0.1:1".into()),
        rights: bps_transport::Rights::default(),
        quotas: bps_transport::Quotas::default(),
    };
    PeerStore::open(folder.path()).unwrap().put(peer).unwrap();
    assert!(serves_others(), "it goes to them");
    assert_eq!(peers("", "").listen, Some(DEFAULT_PEER_LISTEN));
    for wrong in ["[peers]\nlisten = 'everywhere'\n", "[peers]\ncarrier = 'pigeon'\n"] {
        assert!(
            Settings::merge(flags(&state), file(wrong)).unwrap_err().to_string().starts_with("[peers] "),
            "{wrong}"
        );
    }
}
