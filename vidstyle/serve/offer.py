"""What a browser offers, looked at before anything is done with it, and what it is answered."""

from __future__ import annotations

from dataclasses import replace

from aiortc.sdp import SessionDescription

from vidstyle.serve.refused import Refused

MOST_BYTES = 64 << 10
"""The longest session description; browsers send about 5 KiB."""
_MOST_LINES = 512
"""Of those, too: some of them make work with each of the others. Browsers write some 150."""
_SENTENCE = "the offer is no session description of WebRTC that can be read; send what RTCPeerConnection made"


def checked_offer(sdp: object, *, has_source: bool) -> str:
    """The session description ``sdp``, written anew without the addresses in it. `Refused` (400, 413) says why not.

    The server answers whoever comes to it, knowing the password of the answer, and so needs no address.
    And it sends nothing to one that only stands in an offer, which anybody may have written. What is returned is
    what was looked at: two readers need not agree on where a line of ``sdp`` ends.
    ``has_source`` says whether there is a picture for those who send none.
    """
    if not isinstance(sdp, str):
        raise Refused(400, 'send {"sdp": "...", "type": "offer"} as RTCPeerConnection made them')
    if len(sdp.encode(errors="replace")) > MOST_BYTES:
        raise Refused(413, f"the session description has more than {MOST_BYTES >> 10} KiB")
    if len(sdp.splitlines()) > _MOST_LINES:
        raise Refused(413, f"the session description has more than {_MOST_LINES} lines")
    try:
        description = SessionDescription.parse(sdp)
    except Exception as error:  # whatever the parser stumbles over
        raise Refused(400, _SENTENCE) from error
    kinds = [media.kind for media in description.media]
    if kinds != ["video"]:
        found = ", ".join(kind[:20] for kind in kinds[:8]) or "nothing"
        raise Refused(400, f"the offer is for {found}; offer one video and nothing else")
    media = description.media[0]
    if media.direction not in ("sendrecv", "recvonly"):
        raise Refused(400, f"the offered video is {media.direction}; it must be sendrecv, or recvonly for the source")
    if media.direction == "recvonly" and not has_source:
        raise Refused(409, "the server has no source of its own; send a picture to be painted (sendrecv)")
    ice, dtls = media.ice, media.dtls
    if ice is None or dtls is None or not (ice.usernameFragment and ice.password and dtls.fingerprints):
        raise Refused(400, _SENTENCE)
    if not media.rtcp_mux:
        raise Refused(400, "the offer does without rtcp-mux, which no browser does; offer it")
    media.ice_candidates, media.ice_candidates_complete = [], False
    media.host, media.port = None, 9  # "discard": where nothing is known yet
    media.rtcp_host, media.rtcp_port = None, 9
    return str(description)


def with_address(answer: str, address: str | None) -> str:
    """``answer`` with ``address``, if there is one, as another way to each of its addresses of the same kind."""
    if address is None:
        return answer
    description = SessionDescription.parse(answer)
    for media in description.media:
        own = [candidate for candidate in media.ice_candidates if (":" in candidate.ip) == (":" in address)]
        media.ice_candidates += [
            replace(candidate, ip=address, foundation=f"public{index}")
            for index, candidate in enumerate(own)
            if candidate.ip != address
        ]
    return str(description)
