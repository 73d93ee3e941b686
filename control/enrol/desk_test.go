package enrol

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// TestARunIsARun: its SVID says so and is short, and it has the tags of its key alone.
func TestARunIsARun(t *testing.T) {
	l := newLab(t)
	secret := l.key(t, store.KeyParams{Kind: store.Ephemeral, Tags: []wire.Tag{"ai", "dev"}})
	req := request(secret, 1)
	req.Run = &wire.RunInfo{Tags: []wire.Tag{"ai"}, Seconds: 60}
	resp, err := l.Enrol(t.Context(), req, "", start)
	if err != nil {
		t.Fatal(err)
	}
	id, leaf, err := svid.Verify(resp.SVID, l.CA.Trust().Roots, resp.Org, start)
	if err != nil || id != svid.Run(resp.Org, resp.System) || leaf.NotAfter.After(start.Add(wire.RunSVIDLife)) {
		t.Errorf("SVID of %v until %v, %v", id, leaf.NotAfter, err)
	}
	sys, err := l.store.System(t.Context(), resp.System)
	if err != nil || sys.Kind != store.Run || len(sys.Tags) != 1 || sys.Tags[0] != "ai" {
		t.Errorf("%+v, %v", sys, err)
	}
	again, err := l.Renew(t.Context(), id, req.Keys.Identity, &wire.RenewRequest{Now: start}, start)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := svid.Verify(again.SVID, l.CA.Trust().Roots, resp.Org, start); err != nil || got != id {
		t.Errorf("a run renews as %v, %v", got, err)
	}
	for name, c := range map[string]struct {
		run  wire.RunInfo
		code string
		says string
	}{
		"a tag of another key": {wire.RunInfo{Tags: []wire.Tag{"prod"}}, api.CodeForbidden, "tag"},
		"no tag":               {wire.RunInfo{Tags: []wire.Tag{"No Tag"}}, api.CodeInvalid, "mistakes"},
		"no life":              {wire.RunInfo{Seconds: -1}, api.CodeInvalid, "mistakes"},
		"too long a life":      {wire.RunInfo{Seconds: int(wire.MaxRunLife/time.Second) + 1}, api.CodeInvalid, "mistakes"},
	} {
		req := request(secret, 2)
		req.Run = &c.run
		_, err := l.Enrol(t.Context(), req, "", start)
		var p *api.Problem
		if !errors.As(err, &p) || p.Code != c.code || !strings.Contains(p.Title, c.says) || (c.code == api.CodeInvalid) != (len(p.Problems) == 1) {
			t.Errorf("%s: %#v", name, err)
		}
	}
	req = request(secret, 2)
	req.Run = &wire.RunInfo{Seconds: int(wire.MaxRunLife / time.Second)}
	if _, err := l.Enrol(t.Context(), req, "", start); err != nil {
		t.Errorf("the longest life: %v", err)
	}
}

// TestAKeyEnrolsFromItsPlaces: the address is that of the connection, and one that cannot
// be read is in no range.
func TestAKeyEnrolsFromItsPlaces(t *testing.T) {
	l := newLab(t)
	sources := []string{"192.0.2.0/24", "2001:db8::/32"}
	system, relay := l.key(t, store.KeyParams{Sources: sources}), l.key(t, store.KeyParams{Kind: store.RelayKey, Sources: sources})
	for i, c := range []struct{ from, code string }{
		{"192.0.2.1", ""}, {"::ffff:192.0.2.1", ""}, {"2001:db8::1", ""},
		{"198.51.100.1", api.CodeKeyElsewhere}, {"::1", api.CodeKeyElsewhere}, {"", api.CodeKeyElsewhere}, {"192.0.2", api.CodeKeyElsewhere},
	} {
		for _, secret := range []Secret{system, relay} {
			req := request(secret, byte(i+1))
			if secret == relay {
				req = relayRequest(secret, byte(i+1))
			}
			if _, err := l.Enrol(t.Context(), req, c.from, start); codeOf(err) != c.code {
				t.Errorf("from %q: %v, want %q", c.from, err, c.code)
			}
		}
	}
}

func relayRequest(secret Secret, n byte) *wire.EnrolRequest {
	req := request(secret, n)
	key := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(n)), 32)))
	req.Keys = svid.SignKeys(key, wire.WireGuardKey{}, wire.DiscoKey{})
	req.Relay = &wire.RelayInfo{Addr: fmt.Sprintf("relay%d.example:443", n)}
	return req
}

// TestWhoRenews: what was proved by TLS is looked up again, as who it was proved to be.
func TestWhoRenews(t *testing.T) {
	l := newLab(t)
	one, err := l.Enrol(t.Context(), request(l.key(t, store.KeyParams{}), 1), "", start)
	if err != nil {
		t.Fatal(err)
	}
	key := request("", 1).Keys.Identity
	relays := l.key(t, store.KeyParams{Kind: store.RelayKey})
	first, err := l.Enrol(t.Context(), relayRequest(relays, 1), "", start)
	if err != nil {
		t.Fatal(err)
	}
	second, err := l.Enrol(t.Context(), relayRequest(relays, 2), "", start)
	if err != nil {
		t.Fatal(err)
	}
	firstKey := relayRequest(relays, 1).Keys.Identity
	for name, c := range map[string]struct {
		id   svid.ID
		key  wire.IdentityKey
		now  time.Time
		code string
	}{
		"a system":            {svid.System(one.Org, one.System), key, start, ""},
		"a relay":             {svid.Relay(one.Org, first.Relay), firstKey, start, ""},
		"a clock that is off": {svid.System(one.Org, one.System), key, start.Add(time.Hour), api.CodeClockSkew},
		"nobody's key":        {svid.System(one.Org, one.System), wire.IdentityKey{9}, start, api.CodeForbidden},
		"an unknown system":   {svid.System(one.Org, "zzzzz"), key, start, api.CodeForbidden},
		"a relay as another":  {svid.Relay(one.Org, second.Relay), firstKey, start, api.CodeForbidden},
		"a relay by no key":   {svid.Relay(one.Org, first.Relay), wire.IdentityKey{9}, start, api.CodeForbidden},
		"a system as a relay": {svid.Relay(one.Org, wire.RelayID(one.System)), key, start, api.CodeForbidden},
		"the control plane":   {svid.Control(one.Org), key, start, api.CodeForbidden},
		"nobody":              {svid.ID{}, key, start, api.CodeForbidden},
	} {
		resp, err := l.Renew(t.Context(), c.id, c.key, &wire.RenewRequest{Now: c.now, Host: wire.Host{Platform: "linux/amd64"}}, start)
		if codeOf(err) != c.code || (err == nil) != (resp != nil) {
			t.Errorf("%s: %v, want %q", name, err, c.code)
			continue
		}
		if err != nil {
			continue
		}
		got, leaf, err := svid.Verify(resp.SVID, l.CA.Trust().Roots, one.Org, start)
		if err != nil || got != c.id {
			t.Errorf("%s: renewed as %v, %v", name, got, err)
		} else if k, _ := svid.IdentityKey(leaf); k != c.key {
			t.Errorf("%s: renewed for another key", name)
		}
	}
	long := &wire.RenewRequest{Now: start, Host: wire.Host{Platform: strings.Repeat("x", maxHostField+1)}}
	if _, err := l.Renew(t.Context(), svid.System(one.Org, one.System), key, long, start); err != nil {
		t.Error(err)
	}
	if sys, err := l.store.System(t.Context(), one.System); err != nil || sys.Host.Platform != "linux/amd64" {
		t.Errorf("what does not fit is kept: %d bytes, %v", len(sys.Host.Platform), err)
	}
}

// TestARelayMovesItself and no other, to where it can be reached.
func TestARelayMovesItself(t *testing.T) {
	l := newLab(t)
	secret := l.key(t, store.KeyParams{Kind: store.RelayKey})
	one, err := l.Enrol(t.Context(), relayRequest(secret, 1), "", start)
	if err != nil {
		t.Fatal(err)
	}
	two, err := l.Enrol(t.Context(), relayRequest(secret, 2), "", start)
	if err != nil {
		t.Fatal(err)
	}
	key := relayRequest(secret, 1).Keys.Identity
	there := &wire.RelayInfo{Addr: "there.example:443"}
	for _, c := range []struct {
		name  string
		id    wire.RelayID
		key   wire.IdentityKey
		to    *wire.RelayInfo
		moved bool
		code  string
	}{
		{"moves", one.Relay, key, there, true, ""},
		{"is there", one.Relay, key, there, false, ""},
		{"nowhere", one.Relay, key, &wire.RelayInfo{Addr: "there.example", STUN: []string{":1"}}, false, api.CodeInvalid},
		{"another's", two.Relay, key, &wire.RelayInfo{Addr: "elsewhere.example:443"}, false, api.CodeForbidden},
	} {
		moved, err := l.Move(t.Context(), c.id, c.key, c.to, start)
		var p *api.Problem
		errors.As(err, &p)
		if moved != c.moved || codeOf(err) != c.code || c.code == api.CodeInvalid && len(p.Problems) != 2 {
			t.Errorf("%s: %t, %v", c.name, moved, err)
		}
	}
	if got, err := l.store.RelayByIdentity(t.Context(), relayRequest(secret, 2).Keys.Identity); err != nil || got.Addr != "relay2.example:443" {
		t.Errorf("the other relay is at %s, %v", got.Addr, err)
	}
}

// TestARequestTellsAllItsMistakes, a relay's among them.
func TestARequestTellsAllItsMistakes(t *testing.T) {
	req := relayRequest(NewSecret(), 1)
	req.Name, req.Relay.Addr, req.Host.Version = "No Name", "nowhere", strings.Repeat("x", maxHostField+1)
	req.Run, req.Keys.Signature = &wire.RunInfo{}, nil
	_, err := Check(req, start)
	var p *api.Problem
	if !errors.As(err, &p) {
		t.Fatal(err)
	}
	var got []string
	for _, one := range p.Problems {
		got = append(got, one.Path)
	}
	if fmt.Sprint(got) != "[name host run relay.addr keys]" {
		t.Errorf("%v", got)
	}
	for n, fits := range map[int]bool{maxHostField: true, maxHostField + 1: false} {
		text := strings.Repeat("x", n)
		for _, h := range []wire.Host{{Hostname: text}, {Platform: text}, {Version: text}} {
			if hostFits(h) != fits {
				t.Errorf("%d bytes: fit %t", n, !fits)
			}
		}
	}
}

// TestEveryRefusalOfTheStoreHasAnAnswer, and what is no refusal stays what it is: the edge
// must not tell a machine of our disk.
func TestEveryRefusalOfTheStoreHasAnAnswer(t *testing.T) {
	for err, code := range map[error]string{
		store.ErrKeyUnknown: api.CodeKeyUnknown, store.ErrKeyExpired: api.CodeKeyExpired, store.ErrKeyUsedUp: api.CodeKeyUsedUp,
		store.ErrKeyTag: api.CodeForbidden, store.ErrKeyElsewhere: api.CodeKeyElsewhere, store.ErrRevoked: api.CodeForbidden,
		store.ErrNotFound: api.CodeForbidden, store.ErrNoAddress: api.CodeConflict, store.ErrConflict: api.CodeConflict,
		store.ErrDisk: "", x509.ErrUnsupportedAlgorithm: "",
	} {
		wrapped := fmt.Errorf("enrol: %w", err)
		got := Refusal(wrapped)
		if codeOf(got) != code || code == "" && got != wrapped {
			t.Errorf("%v: %v, want %q", err, got, code)
		}
	}
	if Refusal(nil) != nil {
		t.Error("nothing is refused")
	}
}
