//! What an invite, or none, lets its holder do. Decides, and changes nothing.

use super::{Desk, Enrol, Now};
use crate::id::ClientId;
use crate::link::InviteHash;
use crate::rights::IdRange;
use crate::roster::{Invite, InvitePurpose};

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
