//! Whatever the server says, the way past the layers and the general way make the same of it.

use proptest::prelude::*;

use super::*;
use crate::socketio::ArgsView;

/// Waits for answers with retries.
const AGAIN: Key = 3;

/// `/`, `/chat` and `/again` are connected, and wait for the answers to two emits each, or one.
fn waiting() -> World {
    let mut world = World::new();
    let again = socket::Settings { retries: 3, ..socket_settings("/again") };
    world.state.add(AGAIN, again, Returns::default(), 1);
    world.connect(ROOT);
    world.opens();
    world.hears(r#"40{"sid":"A"}"#);
    for (key, answer) in [(CHAT, r#"40/chat,{"sid":"B","pid":"P"}"#), (AGAIN, r#"40/again,{"sid":"C"}"#)] {
        world.connect(key);
        world.hears(answer);
    }
    for (key, name) in [(ROOT, "a?"), (ROOT, "b?"), (CHAT, "c?"), (CHAT, "d?"), (AGAIN, "e?")] {
        world.emit(key, name);
    }
    world.out();
    world
}

impl World {
    /// What a driver hears that takes what it may where it lies.
    fn hears_where_it_lies(&mut self, message: &str) -> Vec<String> {
        let Some(key) = self.state.addressee(message) else { return self.hears(&format!("4{message}")) };
        let namespace = self.state.socket(key).unwrap().namespace().clone();
        let mut shortcut = self.state.shortcut(key).unwrap();
        let mut said = None;
        shortcut.receive(message, |event, ack| {
            let ack = ack.map(|ack| format!(" ?{ack}")).unwrap_or_default();
            said = Some(format!("{namespace} event {}({}){ack}", event.name.as_json(), inside(event.args())));
        });
        if said.is_none()
            && let Some((ticket, answer)) = shortcut.answer(message)
        {
            said = Some(format!("{ticket} answered {}", inside(answer.args())));
        }
        match said {
            Some(said) => {
                assert_eq!(self.out(), NOTHING, "{message}");
                vec![said]
            }
            None => self.hears(&format!("4{message}")),
        }
    }
}

fn inside(args: ArgsView<'_>) -> String {
    let mut array = Vec::new();
    args.write_array(&mut array);
    String::from_utf8(array[1..array.len() - 1].to_vec()).unwrap()
}

/// Both ways, one message after the other, until the session ends.
fn agree(messages: &[String]) {
    let (mut short, mut long) = (waiting(), waiting());
    for message in messages {
        let expected = long.hears(&format!("4{message}"));
        assert_eq!(short.hears_where_it_lies(message), expected, "{message:?} of {messages:?}");
        for key in [ROOT, CHAT, AGAIN] {
            let (short, long) = (short.state.socket(key).unwrap(), long.state.socket(key).unwrap());
            assert_eq!(short.pending_acks(), long.pending_acks(), "{message:?}");
            assert_eq!(short.recoverable(), long.recoverable(), "{message:?}");
        }
    }
}

#[test]
fn corners_are_the_same_on_both_ways() {
    for header in [
        "2",
        "20",
        "2/chat,",
        "2/chat,7",
        "2/other,",
        "2/chat?a=b,",
        "2/,1",
        "3",
        "30",
        "3/chat,1",
        "3/again,0",
    ] {
        for payload in [
            "",
            "[]",
            "[ ]",
            r#"["e"]"#,
            r#"["e",]"#,
            r#"["e"]]"#,
            r#"["e"] x"#,
            r#"["e"] "#,
            "[\"e\"]\n\r\t ",
            "[\"e\"]\u{b}",
            "[\"e\"]\u{a0}",
            "[\"e\"]\0",
            "[\"e\0\"]",
            r#" ["e"]"#,
            "[\n\"e\" ,\r\n1 , 2\n]",
            r#"["e", 1 , 2 ]"#,
            r#"["connect"]"#,
            r#"["\u0063onnect"]"#,
            r#"["c\u006fnnect"]"#,
            r#"["co\u006enect"]"#,
            r#"["disconnecting",1]"#,
            r#"["removeListener"]"#,
            r#"[""]"#,
            "[1e999,-0,1E+2]",
            "[-0]",
            "[01]",
            "[-]",
            "[1.]",
            "[null]",
            "[true]",
            r#"[["e"]]"#,
            r#"[{"e":1}]"#,
            r#"["e",{"a":1,"a":2},[[[]]]]"#,
            r#"["\ud800","\udc00\ud800","\ud83d\ude00"]"#,
            r#"["\uD80"]"#,
            r#"["e",{"_placeholder":true,"num":0}]"#,
            r#"["e","offset"]"#,
            r#"["offset"]"#,
            "{}",
            "\"e\"",
            "null",
        ] {
            agree(&[format!("{header}{payload}"), r#"2/chat,["after"]"#.into(), "3/chat,0[1]".into()]);
        }
    }
    let nested = |depth: usize| format!(r#"2["e",{}{}]"#, "[".repeat(depth), "]".repeat(depth));
    for depth in [126, 127, 128, 129] {
        agree(&[nested(depth)]);
        agree(&[nested(depth).replacen(r#"2["e","#, "30[", 1)]);
    }
    for id in
        ["9007199254740992", "9007199254740993", "18446744073709551615", "18446744073709551616", "00", "007"]
    {
        agree(&[format!(r#"2{id}["e"]"#)]);
        agree(&[format!("3{id}[1]")]);
        agree(&[format!("3/chat,{id}[1]"), format!("3/chat,{id}[1]")]);
    }
    for other in [
        "",
        "0",
        "1",
        "1/chat,",
        "4",
        "5",
        "51-",
        "7",
        "é",
        "2é",
        "-2[]",
        " 2[\"e\"]",
        r#"51-["e",{"_placeholder":true,"num":0}]"#,
    ] {
        agree(&[other.into(), r#"2["after"]"#.into(), "30[]".into()]);
    }
}

fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        r#""[a-zé😀 ]{0,9}""#,
        r#""(\\(u00[0-9a-f]{2}|u[dD][89a-fA-F][0-9a-f]{2}|["\\/bfnrt]|x)|[a-z]){0,5}""#,
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,4})?",
        "null|true|false|01|-|\\+1|NaN",
        Just(r#"{"_placeholder":true,"num":0}"#.to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, |value| {
        let space = "[ \n\t\r]{0,2}";
        prop_oneof![
            (prop::collection::vec((value.clone(), space), 0..4), space).prop_map(|(values, space)| {
                let values: Vec<_> = values.into_iter().map(|(value, space)| value + &space).collect();
                format!("[{space}{}]", values.join(","))
            }),
            (prop::collection::vec(("[a-c]", space, value), 0..4), space).prop_map(|(members, space)| {
                let members: Vec<_> = members
                    .into_iter()
                    .map(|(key, space, value)| format!("\"{key}\"{space}:{value}"))
                    .collect();
                format!("{{{space}{}}}", members.join(","))
            }),
        ]
    })
}

fn any_message() -> impl Strategy<Value = String> {
    let header = "[235013-6]?(1-)?(/|/chat|/again|/other|/chat\\?a)?,?(0|1|2|00|[0-9]{1,21})?";
    let usual = "[23](/chat,|/again,)?[0-3]?";
    let name = prop_oneof![
        4 => any_value(),
        2 => Just(r#""e""#.to_owned()),
        1 => r#""(connect|c\\u006fnnect|disconnect|newListener|connect )""#,
    ];
    let payload =
        (name, prop::collection::vec(any_value(), 0..3), "[ \n]{0,2}").prop_map(|(name, args, space)| {
            let values: Vec<_> = std::iter::once(name).chain(args).collect();
            format!("[{space}{}]{space}", values.join(&format!("{space},")))
        });
    let edit = (any::<prop::sample::Index>(), r#"[ \n\[\]{},:"\\0-9/\x00é-]?"#);
    (prop_oneof![3 => usual, 1 => header], prop_oneof![5 => payload, 1 => any_value(), 1 => ".{0,9}"], edit)
        .prop_map(|(header, payload, (place, text))| {
            let mut message = header + &payload;
            let place = place.index(message.len() + 1);
            if message.is_char_boundary(place) {
                message.insert_str(place, &text);
            }
            message
        })
}

proptest! {
    #[test]
    fn whatever_comes_is_the_same_on_both_ways(messages in prop::collection::vec(any_message(), 1..6)) {
        agree(&messages);
    }
}
