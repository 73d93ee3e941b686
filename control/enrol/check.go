package enrol

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// maxHostField bounds what a machine says about itself.
const maxHostField = 256

// Check decides whether a request is fit to be shown to the store: everything
// that needs no look at the organisation's state. It returns the secret in its
// canonical form. An error is an *api.Problem.
func Check(req *wire.EnrolRequest, now time.Time) (Secret, error) {
	if req.Version != wire.Version {
		return "", problem(http.StatusBadRequest, api.CodeBadRequest, "protocol version not supported",
			fmt.Sprintf("the agent speaks version %d, the control plane version %d", req.Version, wire.Version),
			"upgrade the older of the two")
	}
	if err := CheckClock(req.Now, now); err != nil {
		return "", err
	}
	secret, err := ParseSecret(req.Secret)
	if err != nil {
		return "", problem(http.StatusBadRequest, api.CodeInvalid, "malformed enrolment secret", err.Error(), hintKeys)
	}
	var bad []wire.Problem
	if _, err := wire.ParseName(req.Name); err != nil {
		bad = append(bad, wire.Problem{Path: "name", Message: err.Error()})
	}
	if !hostFits(req.Host) {
		bad = append(bad, wire.Problem{Path: "host", Message: fmt.Sprintf("a field is longer than %d bytes", maxHostField)})
	}
	if req.Run != nil {
		bad = append(bad, checkRun(req)...)
	}
	check := svid.CheckKeys
	if req.Relay != nil {
		check = svid.CheckSignature // a relay has neither WireGuard nor disco key
		bad = append(bad, checkRelay(req.Relay)...)
	}
	if err := check(&req.Keys); err != nil {
		bad = append(bad, wire.Problem{Path: "keys", Message: err.Error()})
	}
	if len(bad) > 0 {
		p := problem(http.StatusUnprocessableEntity, api.CodeInvalid, "enrolment request has mistakes", bad[0].Error(), "")
		p.Problems = bad
		return "", p
	}
	return secret, nil
}

func checkRun(req *wire.EnrolRequest) (bad []wire.Problem) {
	if req.Relay != nil {
		bad = append(bad, wire.Problem{Path: "run", Message: "a relay is no run"})
	}
	if len(req.Run.Tags) > wire.MaxTagsPerSystem {
		bad = append(bad, wire.Problem{Path: "run.tags", Message: fmt.Sprintf("%d tags, at most %d", len(req.Run.Tags), wire.MaxTagsPerSystem)})
	}
	for i, tag := range req.Run.Tags {
		if _, err := wire.ParseTag(string(tag)); err != nil {
			bad = append(bad, wire.Problem{Path: fmt.Sprintf("run.tags[%d]", i), Message: err.Error()})
		} else if slices.Contains(req.Run.Tags[:i], tag) {
			bad = append(bad, wire.Problem{Path: fmt.Sprintf("run.tags[%d]", i), Message: "named twice"})
		}
	}
	if most := int(wire.MaxRunLife / time.Second); req.Run.Seconds < 0 || req.Run.Seconds > most {
		bad = append(bad, wire.Problem{Path: "run.life_seconds", Message: fmt.Sprintf("want 0 to %d", most)})
	}
	return bad
}

func hostFits(h wire.Host) bool {
	return len(h.Hostname) <= maxHostField && len(h.Platform) <= maxHostField && len(h.Version) <= maxHostField
}

// maxRelayAddr bounds how a relay says it is reached, in bytes of host:port. How many
// addresses it may have is the store's to say.
const maxRelayAddr = 255

func checkRelay(r *wire.RelayInfo) (bad []wire.Problem) {
	if len(r.STUN) > store.MaxSTUN {
		return []wire.Problem{{Path: "relay.stun", Message: fmt.Sprintf("%d addresses, at most %d", len(r.STUN), store.MaxSTUN)}}
	}
	check := func(path, addr string) {
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" || len(addr) > maxRelayAddr {
			bad = append(bad, wire.Problem{Path: path, Message: "want host:port"})
		}
	}
	check("relay.addr", r.Addr)
	for i, addr := range r.STUN {
		check(fmt.Sprintf("relay.stun[%d]", i), addr)
	}
	return bad
}

// CheckClock refuses a caller whose clock is too far off, with both times, because
// every certificate it is given would look wrong to it.
func CheckClock(theirs, now time.Time) error {
	skew := theirs.Sub(now)
	if skew.Abs() <= wire.MaxClockSkew {
		return nil
	}
	direction := "ahead of"
	if skew < 0 {
		direction = "behind"
	}
	return problem(http.StatusBadRequest, api.CodeClockSkew, "clocks differ too much",
		fmt.Sprintf("the caller's clock says %s and is %s %s the control plane's, which says %s; at most %s is allowed",
			theirs.UTC().Format(time.RFC3339), skew.Abs().Round(time.Second), direction, now.UTC().Format(time.RFC3339), wire.MaxClockSkew),
		"set the clock of the machine, or let it follow a time server")
}

const hintKeys = `list the keys with "enclave key list" or make one with "enclave key create"`

// Refusal turns an error of the store into the answer for the machine that asked.
// An error that is none of its making stays what it is.
func Refusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrKeyUnknown):
		return problem(http.StatusForbidden, api.CodeKeyUnknown, "enrolment key not accepted",
			"no enabled key of this kind has this secret", hintKeys)
	case errors.Is(err, store.ErrKeyExpired):
		return problem(http.StatusForbidden, api.CodeKeyExpired, "enrolment key has expired", "", hintKeys)
	case errors.Is(err, store.ErrKeyUsedUp):
		return problem(http.StatusForbidden, api.CodeKeyUsedUp, "enrolment key has no uses left", "", hintKeys)
	case errors.Is(err, store.ErrKeyTag):
		return problem(http.StatusForbidden, api.CodeForbidden, "enrolment key does not give this tag", err.Error(), "a run has tags of its key only: add the tag to a key, or leave it out")
	case errors.Is(err, store.ErrKeyElsewhere):
		return problem(http.StatusForbidden, api.CodeKeyElsewhere, "enrolment key not accepted from here",
			"this key enrols only from addresses that its maker has named, and this machine calls from another", hintKeys)
	case errors.Is(err, store.ErrRevoked):
		return problem(http.StatusForbidden, api.CodeForbidden, "identity is revoked",
			"this identity was revoked for good", "remove the agent's state directory and enrol again")
	case errors.Is(err, store.ErrNotFound):
		return problem(http.StatusForbidden, api.CodeForbidden, "identity is unknown",
			"this identity is not enrolled here", "enrol again")
	case errors.Is(err, store.ErrNoAddress), errors.Is(err, store.ErrConflict):
		return problem(http.StatusConflict, api.CodeConflict, "enrolment is not possible", err.Error(), "")
	}
	return err
}

func problem(status int, code, title, detail, hint string) *api.Problem {
	return &api.Problem{Type: "about:blank", Title: title, Status: status, Code: code, Detail: detail, Hint: hint}
}
