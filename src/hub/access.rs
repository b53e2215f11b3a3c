//! Who may do what: what the rules of the configuration give to a program that attaches. Pure.

use std::sync::{Arc, LazyLock};

use super::subscription::Pattern;

/// What a consumer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Listen.
    Read,
    /// Emit and answer, too.
    Write,
    /// Everything.
    Control,
}

impl Role {
    /// As it is written in the configuration and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Control => "control",
        }
    }
}

/// What one program may do, and with which connections. All others do not exist for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// What it may do.
    pub role: Role,
    /// Where: on connections whose name fits one of these.
    pub connections: Arc<[Pattern]>,
}

impl Rights {
    /// This role on every connection.
    pub fn everywhere(role: Role) -> Self {
        static EVERYTHING: LazyLock<Arc<[Pattern]>> = LazyLock::new(|| [Pattern::new("*")].into());
        Self { role, connections: Arc::clone(&EVERYTHING) }
    }

    /// What is left to a program that may not be here any more.
    pub fn none() -> Self {
        Self { role: Role::Read, connections: [].into() }
    }

    /// Whether no name at all is out of reach.
    pub fn reach_all(&self) -> bool {
        self.connections.iter().any(Pattern::fits_all)
    }

    /// Whether a connection of this name may exist for the program.
    pub fn reach(&self, connection: &str) -> bool {
        self.connections.iter().any(|pattern| pattern.matches(connection))
    }
}

/// One rule. It holds for a program that is all that it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// This user; absent: any.
    pub uid: Option<u32>,
    /// A member of each of these groups.
    pub gids: Vec<u32>,
    /// What it gives; absent: the program may not attach.
    pub rights: Option<Rights>,
}

impl Rule {
    /// Whether it holds; none where that takes the user's other groups and they are not known.
    fn holds(&self, uid: u32, gid: u32, groups: Option<&[u32]>) -> Option<bool> {
        if self.uid.is_some_and(|wanted| wanted != uid) {
            return Some(false);
        }
        let mut others = self.gids.iter().filter(|wanted| **wanted != gid).peekable();
        if others.peek().is_none() {
            return Some(true);
        }
        let groups = groups?;
        Some(others.all(|wanted| groups.contains(wanted)))
    }
}

/// What the rules say of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may attach, with these rights.
    Granted(Rights),
    /// It may not.
    Refused,
    /// That depends on its user's other groups.
    NeedsGroups,
}

/// All rules in their order. The first one that holds decides; where none does, root and the daemon's own user have
/// the role `control` on every connection, and everybody else has `write`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Rule>,
    own: u32,
}

impl Rules {
    /// The rules of a daemon that runs as the user `own`.
    pub fn new(rules: Vec<Rule>, own: u32) -> Self {
        Self { rules, own }
    }

    /// What they say of a program of this user and primary group. Without `groups`, all others of its
    /// user, they may have to ask for them; with them there is always an answer.
    pub fn judge(&self, uid: u32, gid: u32, groups: Option<&[u32]>) -> Verdict {
        for rule in &self.rules {
            match rule.holds(uid, gid, groups) {
                Some(false) => {}
                Some(true) => return rule.rights.clone().map_or(Verdict::Refused, Verdict::Granted),
                None => return Verdict::NeedsGroups,
            }
        }
        let role = if self.is_trusted(uid) { Role::Control } else { Role::Write };
        Verdict::Granted(Rights::everywhere(role))
    }

    /// Whether the user is root or the daemon's own, who can do without the daemon whatever it can.
    pub fn is_trusted(&self, uid: u32) -> bool {
        uid == 0 || uid == self.own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 900;

    fn rule(uid: Option<u32>, gids: &[u32], role: Option<Role>) -> Rule {
        Rule { uid, gids: gids.to_vec(), rights: role.map(Rights::everywhere) }
    }

    fn granted(role: Role) -> Verdict {
        Verdict::Granted(Rights::everywhere(role))
    }

    #[test]
    fn without_rules_root_and_the_own_user_have_control_and_others_write() {
        let rules = Rules::new(Vec::new(), OWN);
        for (uid, role) in
            [(0, Role::Control), (OWN, Role::Control), (1000, Role::Write), (u32::MAX, Role::Write)]
        {
            // Groups mean nothing by themselves, not even root's.
            assert_eq!(rules.judge(uid, 0, None), granted(role), "{uid}");
        }
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        let rules = vec![
            rule(Some(1000), &[50], Some(Role::Read)),
            rule(Some(1000), &[], Some(Role::Control)),
            rule(None, &[50, 60], None),
            rule(None, &[60], Some(Role::Read)),
            rule(Some(0), &[], Some(Role::Read)),
            rule(Some(OWN), &[], None),
        ];
        let rules = Rules::new(rules, OWN);
        for (uid, gid, groups, verdict) in [
            (1000, 50, &[][..], granted(Role::Read)),
            (1000, 1, &[50], granted(Role::Read)),
            (1000, 1, &[60], granted(Role::Control)),
            (1001, 50, &[60], Verdict::Refused),
            (1001, 60, &[1, 50], Verdict::Refused),
            (1001, 1, &[50, 60], Verdict::Refused),
            (1001, 60, &[], granted(Role::Read)),
            (1001, 50, &[], granted(Role::Write)),
            (0, 60, &[], granted(Role::Read)),
            (0, 0, &[], granted(Role::Read)),
            (OWN, 1, &[], Verdict::Refused),
        ] {
            assert_eq!(rules.judge(uid, gid, Some(groups)), verdict, "{uid} {gid} {groups:?}");
        }
    }

    #[test]
    fn groups_are_asked_for_only_where_they_decide() {
        let rules = vec![
            rule(Some(1000), &[], Some(Role::Read)),
            rule(Some(1001), &[50], Some(Role::Read)),
            rule(None, &[60], Some(Role::Control)),
        ];
        let rules = Rules::new(rules, OWN);
        for (uid, gid, verdict) in [
            // Decided before.
            (1000, 1, granted(Role::Read)),
            // The primary group is known.
            (1001, 50, granted(Role::Read)),
            (1002, 60, granted(Role::Control)),
            (1001, 1, Verdict::NeedsGroups),
            (1002, 1, Verdict::NeedsGroups),
            // Root, too: rules come before defaults.
            (0, 0, Verdict::NeedsGroups),
        ] {
            assert_eq!(rules.judge(uid, gid, None), verdict, "{uid} {gid}");
            assert_ne!(rules.judge(uid, gid, Some(&[])), Verdict::NeedsGroups);
        }
        let of_another_user = Rules::new(vec![rule(Some(1001), &[50], None)], OWN);
        assert_eq!(of_another_user.judge(1002, 1, None), granted(Role::Write));
    }

    #[test]
    fn rights_reach_what_fits_any_pattern() {
        let rights =
            Rights { role: Role::Control, connections: ["chat*", "a?"].map(Pattern::new).to_vec().into() };
        for (name, reach) in
            [("chat", true), ("chat-2", true), ("ab", true), ("a", false), ("my chat", false), ("*", false)]
        {
            assert_eq!(rights.reach(name), reach, "{name}");
        }
        assert!(!rights.reach_all());
        let all = Rights::everywhere(Role::Read);
        assert!(all.reach("anything") && all.reach_all());
    }
}
