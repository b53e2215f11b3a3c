//! Bytes are written as hexadecimal, and text in them between quotes.

use proptest::prelude::*;

use bytestring::ByteString;

use super::*;
use crate::socketio::{Args, DecodeError, Name};

const MIB: usize = 1 << 20;

/// Hexadecimal, white space and `'text'` as bytes.
fn bytes(notation: &str) -> Bytes {
    let mut out = Vec::new();
    for (at, part) in notation.split('\'').enumerate() {
        if at % 2 == 1 {
            out.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<u8> = part.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        out.extend(digits.chunks(2).map(byte));
    }
    out.into()
}

fn decode(message: &Bytes, max: usize) -> Result<Packet, DecodeError> {
    super::decode(message, max, false)
}

fn decoded(notation: &str) -> Result<Packet, DecodeError> {
    decode(&bytes(notation), MIB)
}

fn encoded(packet: &Packet) -> Bytes {
    match encode(packet) {
        Message::Binary(bytes) => bytes,
        Message::Text(text) => panic!("{text}"),
    }
}

fn packet(namespace: &str, body: Body) -> Packet {
    Packet { namespace: namespace.into(), body }
}

fn event(id: Option<u64>, name: &str, array: &str) -> Packet {
    let args = Args::from_consumer(array, true, 100).unwrap();
    packet("/", Body::Event { id, name: Name::new(name), args })
}

/// The arguments of an event `e` with one argument, `value`.
fn argument(value: &str) -> Result<String, DecodeError> {
    let packet = decoded(&format!("83 a4'type' 02 a3'nsp' a1'/' a4'data' 92 a1'e' {value}"))?;
    let Body::Event { args, .. } = packet.body else { panic!("no event") };
    let mut out = Vec::new();
    args.write_array(&mut out);
    let array = String::from_utf8(out).unwrap();
    assert_eq!(json::validate(&array), Ok(()), "{array}");
    Ok(array[1..array.len() - 1].to_owned())
}

#[test]
fn packets_of_the_official_parser() {
    let object = |text: &'static str| Some(ByteString::from_static(text));
    for (notation, expected) in [
        (
            "83 a4'type' 00 a4'data' 81 a1't' 01 a3'nsp' a1'/'",
            packet("/", Body::Connect(object(r#"{"t":1}"#))),
        ),
        ("83 a4'type' 00 a4'data' d40000 a3'nsp' a2'/a'", packet("/a", Body::Connect(None))),
        (
            "83 a4'type' 00 a4'data' 82 a3'sid' a1'S' a3'pid' d40000 a3'nsp' a1'/'",
            packet("/", Body::Connect(object(r#"{"sid":"S"}"#))),
        ),
        ("82 a4'type' 01 a3'nsp' a1'/'", packet("/", Body::Disconnect)),
        (
            "85 a4'type' 02 a4'data' 92 a1'e' 81 a1'x' 01 a7'options' 81 a8'compress' c3 a2'id' 00 a3'nsp' a1'/'",
            event(Some(0), "e", r#"[{"x":1}]"#),
        ),
        (
            "84 a2'id' cd0100 a3'nsp' a1'/' a4'type' 03 a4'data' 90",
            packet("/", Body::Ack { id: Some(256), args: Args::default() }),
        ),
        ("83 a4'type' 04 a3'nsp' a1'/' a4'data' a2'no'", packet("/", Body::ConnectError(object("\"no\"")))),
        (
            "83 a4'type' 04 a3'nsp' a1'/' a4'data' 82 a7'message' a1'm' a4'data' 91 c4 01 ff",
            packet("/", Body::ConnectError(object(r#"{"message":"m","data":[{"$binary":"/w=="}]}"#))),
        ),
        // Servers in Python.
        ("83 a4'type' 01 a4'data' c0 a3'nsp' a1'/'", packet("/", Body::Disconnect)),
    ] {
        assert_eq!(decoded(notation), Ok(expected), "{notation}");
    }
}

#[test]
fn packets_are_written() {
    let object = || Some(ByteString::from_static(r#"{"t":[true,null]}"#));
    for (packet, notation) in [
        (packet("/", Body::Connect(None)), "82 a4'type' 00 a3'nsp' a1'/'"),
        (packet("/a", Body::Connect(object())), "83 a4'type' 00 a3'nsp' a2'/a' a4'data' 81 a1't' 92 c3 c0"),
        (packet("/", Body::Disconnect), "82 a4'type' 01 a3'nsp' a1'/'"),
        (event(None, "e", "[]"), "83 a4'type' 02 a3'nsp' a1'/' a4'data' 91 a1'e'"),
        (
            event(Some(300), "e", r#"[{"b":{"$binary":"AQI="},"a":[]},[[{}]],{"$binary":""}]"#),
            "84 a4'type' 02 a3'nsp' a1'/' a2'id' cd012c a4'data' 94 a1'e' 82 a1'b' c4020102 a1'a' 90 9191 80 c400",
        ),
        (
            packet("/", Body::Ack { id: Some(7), args: Args::from_array("[1]".into()).unwrap() }),
            "84 a4'type' 03 a3'nsp' a1'/' a2'id' 07 a4'data' 91 01",
        ),
        (
            packet("/", Body::ConnectError(Some("\"no\"".into()))),
            "83 a4'type' 04 a3'nsp' a1'/' a4'data' a2'no'",
        ),
    ] {
        assert_eq!(encoded(&packet), bytes(notation), "{packet:?}");
    }
}

#[test]
fn numbers_and_texts_are_written_in_the_least_room() {
    for (json, notation) in [
        ("0", "00"),
        ("-0", "00"),
        ("127", "7f"),
        ("-32", "e0"),
        ("128", "cc80"),
        ("-33", "d0df"),
        ("65536", "ce00010000"),
        ("9007199254740993", "cf0020000000000001"),
        ("18446744073709551615", "cfffffffffffffffff"),
        ("-9223372036854775808", "d38000000000000000"),
        ("18446744073709551616", "cb43f0000000000000"),
        ("1.5", "cb3ff8000000000000"),
        ("1e2", "cb4059000000000000"),
        ("1e999", "cb7ff0000000000000"),
        ("false", "c2"),
        (r#""""#, "a0"),
        (r#""\u00e9\n\ud83d\ude00""#, "a7'é' 0a '😀'"),
        (r#""\ud800""#, "a3'\u{fffd}'"),
    ] {
        let out = encoded(&event(None, "e", &format!("[{json}]")));
        let expected = bytes(&format!("83 a4'type' 02 a3'nsp' a1'/' a4'data' 92 a1'e' {notation}"));
        assert_eq!(out, expected, "{json}");
    }
    for length in [31, 32, 255, 256, 65535, 65536] {
        let json =
            format!("[\"{0}\",{{\"$binary\":\"{1}\"}}]", "x".repeat(length), "AAAA".repeat(length / 3));
        let packet = event(None, "e", &json);
        assert_eq!(decode(&encoded(&packet), MIB), Ok(packet), "{length}");
    }
}

#[test]
fn values_become_what_javascript_would_make_of_them() {
    for (notation, expected) in [
        ("c0", "null"),
        ("d40000", "null"),
        ("93 01 d40000 c3", "[1,null,true]"),
        ("82 a1'u' d40000 a1'v' c2", r#"{"v":false}"#),
        ("d0ff", "-1"),
        ("d003", "3"),
        ("cfffffffffffffffff", "18446744073709551615"),
        ("d38000000000000000", "-9223372036854775808"),
        ("ca3fc00000", "1.5"),
        ("cb3fb999999999999a", "0.1"),
        ("cb7ff8000000000000", "null"),
        ("cbfff0000000000000", "null"),
        ("cb7e37e43c8800759c", "1e+300"),
        ("a3'a\"' 01", r#""a\"\u0001""#),
        ("d902'\u{e9}'", "\"é\""),
        ("a3 'a' ff 'b'", "\"a\u{fffd}b\""),
        ("c4020102", r#"{"$binary":"AQI="}"#),
        ("c70200 0102", r#"{"$binary":"AQI="}"#),
        ("c7080000 00000000000001", r#"{"$binary":"AAAAAAAAAAE="}"#),
        ("d700 0000019b7ca98f2e", "\"2026-01-02T03:04:05.678Z\""),
        ("d700 ffffffffffffffff", "\"1969-12-31T23:59:59.999Z\""),
        ("d700 7fffffffffffffff", "null"),
        ("d6ff 00000001", "\"1970-01-01T00:00:01.000Z\""),
        ("d7ff 77359400 00000001", "\"1970-01-01T00:00:01.500Z\""),
        ("c70cff 1dcd6500 0000000000000001", "\"1970-01-01T00:00:01.500Z\""),
        ("c70cff 1dcd6500 7fffffffffffffff", "null"),
        ("d405 ff", r#"[5,{"$binary":"/w=="}]"#),
        ("c800 02fe 0102", r#"[-2,{"$binary":"AQI="}]"#),
        (
            "87 01 c3 e0 c3 c0 c3 c2 c3 d40000 c3 cb3ff8000000000000 c3 c40161 c3",
            r#"{"1":true,"-32":true,"null":true,"false":true,"undefined":true,"1.5":true,"a":true}"#,
        ),
        ("82 a1'k' 01 a1'k' 02", r#"{"k":1,"k":2}"#),
        ("81 ac'_placeholder' c3", r#"{"_placeholder":true}"#),
    ] {
        assert_eq!(argument(notation).as_deref(), Ok(expected), "{notation}");
    }
}

#[test]
fn what_is_no_packet_is_refused() {
    let event = |data: &str| format!("83 a4'type' 02 a3'nsp' a1'/' a4'data' {data}");
    for (notation, message) in [
        (String::new(), "invalid MessagePack: it is cut off"),
        ("c1".into(), "invalid MessagePack: there is a byte that it never uses"),
        ("01".into(), "invalid MessagePack: a packet must be a map"),
        ("82 a4'type' 01 a3'nsp' a1'/' 00".into(), "invalid MessagePack: bytes follow the packet"),
        ("df ffffffff".into(), "invalid MessagePack: it is cut off"),
        ("81 a3'nsp' a1'/'".into(), "invalid packet type"),
        ("82 a4'type' 05 a3'nsp' a1'/'".into(), "invalid packet type"),
        ("82 a4'type' ff a3'nsp' a1'/'".into(), "invalid packet type"),
        ("82 a4'type' a1'2' a3'nsp' a1'/'".into(), "invalid packet type"),
        ("81 a4'type' 01".into(), "invalid namespace"),
        ("82 a4'type' 01 a3'nsp' c401'/'".into(), "invalid namespace"),
        ("84 a4'type' 02 a3'nsp' a1'/' a4'data' 91 a1'e' a2'id' a1'1'".into(), "invalid packet id"),
        ("84 a4'type' 02 a3'nsp' a1'/' a4'data' 91 a1'e' a2'id' ff".into(), "invalid packet id"),
        ("84 a4'type' 02 a3'nsp' a1'/' a4'data' 91 a1'e' a2'id' c0".into(), "invalid packet id"),
        ("82 a4'type' 02 a3'nsp' a1'/'".into(), "invalid payload: an event takes an array"),
        ("82 a4'type' 03 a3'nsp' a1'/'".into(), "invalid payload: an ack takes an array"),
        ("82 a4'type' 04 a3'nsp' a1'/'".into(), "invalid payload: CONNECT_ERROR takes an object or a string"),
        ("83 a4'type' 00 a3'nsp' a1'/' a4'data' 90".into(), "invalid payload: CONNECT takes an object"),
        ("83 a4'type' 01 a3'nsp' a1'/' a4'data' 80".into(), "invalid payload: DISCONNECT takes none"),
        (event("80"), "invalid payload: an event takes an array"),
        (event("90"), "invalid payload: an event needs a name"),
        (event("91 c0"), "invalid payload: an event's name must be a string or a number"),
        (event("91 90"), "invalid payload: an event's name must be a string or a number"),
        (event("91 a7'connect'"), "invalid payload: an event must not have a reserved name"),
        (event("dd 00000003 a1'e' 01"), "invalid MessagePack: it is cut off"),
        (event("92 a1'e' c6ffffffff 00"), "invalid MessagePack: it is cut off"),
        (event("92 a1'e' dbffffffff"), "invalid MessagePack: it is cut off"),
        (
            event("92 a1'e' 81 90 01"),
            "invalid payload: an object has a key that is neither text nor a number",
        ),
        (
            event("93 a1'e' c400 82 ac'_placeholder' c3 a3'num' 00"),
            "illegal attachments: a placeholder refers to none of them",
        ),
        (
            event("93 a1'e' c400 83 ac'_placeholder' c3 a3'num' 00 a1'x' c400"),
            "illegal attachments: a placeholder refers to none of them",
        ),
    ] {
        assert_eq!(decoded(&notation).unwrap_err().explained(), message, "{notation}");
    }
}

#[test]
fn depth_is_that_of_json() {
    let nested = |depth: usize| "91".repeat(depth) + "c0";
    assert!(argument(&nested(json::MAX_DEPTH - 1)).is_ok());
    let refused = Err(DecodeError::Payload("too many arrays and objects within one another"));
    assert_eq!(argument(&nested(json::MAX_DEPTH)), refused);
    assert_eq!(argument(&nested(100_000)), refused);
    let elsewhere = format!("83 a4'type' 01 a3'nsp' a1'/' a7'options' {}", nested(1_000_000));
    assert_eq!(decoded(&elsewhere), Ok(packet("/", Body::Disconnect)), "what is skipped costs no stack");
}

#[test]
fn what_grows_beyond_the_limit_is_refused() {
    // Two bytes of nothing binary are a placeholder of thirty.
    let count = 1000;
    let mut message = bytes("83 a4'type' 03 a3'nsp' a1'/' a4'data' dc 03e8").to_vec();
    message.extend("\u{c4}\0".chars().map(|byte| byte as u8).cycle().take(2 * count));
    let message = Bytes::from(message);
    assert!(decode(&message, 40 * count).is_ok());
    assert_eq!(decode(&message, 30 * count), Err(DecodeError::TooLarge { max: 30 * count }));
    let controls = bytes(&format!("83 a4'type' 03 a3'nsp' a1'/' a4'data' 91 d9c8 {}", "01".repeat(200)));
    assert!(decode(&controls, 1202).is_ok());
    assert_eq!(decode(&controls, 1201), Err(DecodeError::TooLarge { max: 1201 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_bytes_make_it_panic(mut tail: Vec<u8>, head in 0..6_usize, at in 0..40_usize, byte: u8) {
        let heads = ["", "83", "83 a4'type' 02 a3'nsp' a1'/' a4'data'", "83 a4'type' 00 a3'nsp' a1'/' a4'data'",
            "83 a4'type' 02 a3'nsp' a1'/' a4'data' 92 a1'e' 82 a1'k' c401ff a2'kk' d700", "82 a4'type' 04 a4'data'"];
        let mut message = bytes(heads[head]).to_vec();
        if let Some(place) = message.get_mut(at) {
            *place = byte;
        }
        message.append(&mut tail);
        if let Ok(packet) = decode(&message.into(), 1000) {
            encode(&packet);
            if let Body::Event { args, .. } | Body::Ack { args, .. } = packet.body {
                let mut out = Vec::new();
                args.write_array(&mut out);
                prop_assert_eq!(json::validate(std::str::from_utf8(&out).unwrap()), Ok(()));
            }
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same(
        namespace in "/([a-z?é-][a-z/]{0,5})?",
        id: Option<u64>,
        name in any::<String>().prop_filter("reserved", |name| !Name::new(name).is_reserved()),
        values in proptest::collection::vec(any_value(), 0..5),
        is_ack: bool,
    ) {
        let args = Args::from_consumer(&format!("[{}]", values.join(",")), true, 1000).unwrap();
        let name = Name::new(&name);
        let body = if is_ack { Body::Ack { id, args } } else { Body::Event { id, name, args } };
        let packet = packet(&namespace, body);
        prop_assert_eq!(decode(&encoded(&packet), MIB), Ok(packet));
    }
}

/// JSON as the decoder would spell it.
fn any_value() -> impl Strategy<Value = String> {
    let text = || {
        any::<String>().prop_map(|text| {
            let mut out = Vec::new();
            json::push_string(&mut out, &text);
            String::from_utf8(out).unwrap()
        })
    };
    let finite = any::<f64>().prop_filter("finite", |number| number.is_finite());
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        finite.prop_map(|number| serde_json::to_string(&number).unwrap()),
        text(),
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just(r#"{"$binary":"AQID"}"#.to_owned()),
        Just(r#"{"$binary":""}"#.to_owned()),
    ];
    leaf.prop_recursive(4, 40, 5, move |value| {
        prop_oneof![
            proptest::collection::vec(value.clone(), 0..20)
                .prop_map(|values| format!("[{}]", values.join(","))),
            // Keys of one member alone could be `$binary`.
            proptest::collection::vec((text(), value), 2..18).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}
