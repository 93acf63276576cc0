//! What an invite, or none, lets its holder do. Decides, and changes nothing.

use super::{Desk, Enrol, Now};
use crate::id::ClientId;
use crate::link::{InviteCode, InviteHash};
use crate::message::{Code, Refusal};
use crate::rights::IdRange;
use crate::roster::{Invite, InvitePurpose, Roster};
use crate::secret::Secret;

/// What is wrong with an invite that this hub made. Told to who holds it, and to nobody else: a code that is none, or that is
/// forgotten, has no fault of its own. What is known of the id it comes with is no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteFault {
    /// It was used as often as it was made for.
    #[error("is spent: it was used as often as it was made for")]
    Spent,
    /// Its time is over.
    #[error("has expired")]
    Expired,
    /// It is for other ids than the one it came with.
    #[error("is for other ids")]
    OtherIds,
}

impl InviteFault {
    /// What its holder is told.
    pub fn refusal(self) -> Refusal {
        let cure = match self {
            InviteFault::Spent | InviteFault::Expired => {
                "Ask for another: 'lockstep invite' on the hub prints one, 'lockstep clients reissue ID' for a machine that has \
                 an id and lost its unique ID"
            }
            InviteFault::OtherIds => "Join with --id auto, which takes one that it is for, or ask for one for this id",
        };
        Refusal { code: Code::NotInvited, text: format!("not let in: this invite {self}. {cure}"), retry_ms: None }
    }
}

/// What is wrong with the invite `code` that came with `id`, or with no certain one, and when that invite was made.
pub(super) fn fault_of(
    code: &InviteHash,
    id: Option<ClientId>,
    roster: &dyn Roster,
    now_ms: i64,
) -> Option<(InviteFault, i64)> {
    let invite = roster.lookup_invite(code)?;
    let other = |id: ClientId| match invite.purpose {
        InvitePurpose::Enrol(ids) => ids.is_some_and(|ids| !ids.holds(id)),
        InvitePurpose::Reissue(of) => of != id,
    };
    let fault = match id {
        _ if invite.uses_left == 0 => InviteFault::Spent,
        _ if !invite.is_good(now_ms) => InviteFault::Expired,
        Some(id) if other(id) => InviteFault::OtherIds,
        _ => return None,
    };
    Some((fault, invite.created_at_ms))
}

/// As the login says it to who has no unique ID to show: what is wrong with the invite `code` that came with `id`.
pub fn fault(code: &Secret, id: ClientId, roster: &dyn Roster, now_ms: i64) -> Option<(InviteFault, i64)> {
    fault_of(&InviteCode::within(code.reveal())?.hash(), Some(id), roster, now_ms)
}

/// Whether somebody new may come in now: under this id, where one is named, and with this invite.
pub(super) fn may_enrol(id: Option<ClientId>, invite: Option<&InviteHash>, desk: &Desk<'_>, now: Now) -> bool {
    match desk.policy.enrol {
        Enrol::Open => true,
        Enrol::Closed => false,
        Enrol::Invite => {
            invite.and_then(|code| desk.roster.lookup_invite(code)).is_some_and(|invite| invites(&invite, id, now))
        }
    }
}

/// Whether a new client may come in by this invite, under this id where it names one.
fn invites(invite: &Invite, id: Option<ClientId>, now: Now) -> bool {
    let for_it = match invite.purpose {
        InvitePurpose::Enrol(bound) => bound.is_none_or(|ids| id.is_some_and(|id| ids.holds(id))),
        InvitePurpose::Reissue(_) => false,
    };
    for_it && invite.is_good(now.wall_ms)
}

/// The first of these ids that nobody has. One that is meant for a single id may have it also where it was held and lapsed, or
/// is expected.
pub(super) fn free_of(ids: IdRange, desk: &Desk<'_>) -> Option<ClientId> {
    let only = (ids == IdRange::one(ids.first)).then_some(ids.first);
    match only {
        Some(id) => desk.roster.lookup(id).is_none_or(|known| known.is_free()).then_some(id),
        None => desk.roster.next_free_id(Some(ids)),
    }
}

/// Whether this invite gives `id` a new unique ID.
pub(super) fn may_reissue(id: ClientId, invite: Option<&InviteHash>, desk: &Desk<'_>, now: Now) -> bool {
    invite
        .and_then(|code| desk.roster.lookup_invite(code))
        .is_some_and(|invite| invite.purpose == InvitePurpose::Reissue(id) && invite.is_good(now.wall_ms))
}

/// Whether a presented invite counts: on an open hub a bad one does no harm, and none is spent but one that gives more, or less,
/// than everybody has there.
pub(super) fn spends(code: &InviteHash, id: ClientId, desk: &Desk<'_>, now: Now) -> bool {
    let Some(invite) = desk.roster.lookup_invite(code) else { return false };
    match invite.purpose {
        InvitePurpose::Reissue(_) => true,
        InvitePurpose::Enrol(_) => match desk.policy.enrol {
            Enrol::Open => invite.is_special() && invites(&invite, Some(id), now),
            Enrol::Invite => true,
            Enrol::Closed => false,
        },
    }
}
