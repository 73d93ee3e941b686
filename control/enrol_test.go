package control

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"enclave/control/enrol"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

func TestApprovalOpensThePendingSystem(t *testing.T) {
	w := newWorld(t)
	key := w.key(api.KeyCreate{Name: "manual", Tags: []wire.Tag{"devs"}})
	pods := w.key(automatic("pods"))
	w.api("POST", "/policies", direct("devs", "pods"), nil)
	m, peer := w.machine(), w.machine()
	if resp := m.enrol(key.Secret, "alice"); resp.State != wire.Pending {
		t.Fatalf("state %q", resp.State)
	}
	peer.enrol(pods.Secret, "bob")
	f := m.stream()
	if f.Map.Self.State != wire.Pending || len(f.Map.Peers) != 0 {
		t.Fatalf("a pending system is told %+v", f.Map)
	}
	fb := peer.stream()
	if len(fb.Map.Peers) != 0 {
		t.Fatal("a pending system stands in a map")
	}
	w.api("POST", "/systems/alice/approve", nil, nil)
	if f.delta(); f.Map.Self.State != wire.Connected || len(f.Map.Peers) != 1 {
		t.Errorf("after approval: %+v", f.Map)
	}
	fb.delta()
	if _, p := w.tryAPI("POST", "/systems/alice/approve", nil, nil); p == nil || p.Code != api.CodeConflict {
		t.Errorf("approved twice: %v", p)
	}
}

func TestEnrolmentIsIdempotent(t *testing.T) {
	w := newWorld(t)
	one := 1
	key := w.key(api.KeyCreate{Approval: "automatic", Uses: &one})
	m := w.machine()
	first := m.enrol(key.Secret, "alice")
	again := m.enrol(key.Secret, "alice") // the answer was lost
	if again.System != first.System {
		t.Errorf("asked again and became %s, not %s", again.System, first.System)
	}
	if _, p := w.machine().tryEnrol(w.machine().request(key.Secret, "bob")); p == nil || p.Code != api.CodeKeyUsedUp {
		t.Errorf("a used-up key: %v", p)
	}
	var list api.Page[api.System]
	w.api("GET", "/systems", nil, &list)
	if len(list.Items) != 1 {
		t.Errorf("%d systems", len(list.Items))
	}
}

func TestEnrolmentIsRefused(t *testing.T) {
	w := newWorld(t)
	good, off := w.key(automatic()), w.key(api.KeyCreate{Name: "off", Approval: "automatic"})
	w.api("POST", "/keys/off/disable", nil, nil)
	// An old key: made an hour ago, for half of it.
	old := enrol.NewSecret()
	then := time.Now().Add(-time.Hour)
	_, err := w.store.CreateKey(t.Context(), at(then), store.KeyParams{Name: "old", Kind: store.General, Automatic: true, Expires: store.End{At: then.Add(time.Minute)}, Secret: old.Hash()})
	if err != nil {
		t.Fatal(err)
	}

	with := func(secret string, edit func(*wire.EnrolRequest)) wire.EnrolRequest {
		req := w.machine().request(secret, "alice")
		if edit != nil {
			edit(&req)
		}
		return req
	}
	for name, c := range map[string]struct {
		req  wire.EnrolRequest
		code string
	}{
		"wrong secret": {with("00000-00000-00000-00000-00000", nil), api.CodeKeyUnknown},
		"disabled key": {with(off.Secret, nil), api.CodeKeyUnknown},
		"expired key":  {with(string(old), nil), api.CodeKeyExpired},
		"slow clock":   {with(good.Secret, func(r *wire.EnrolRequest) { r.Now = r.Now.Add(-time.Hour) }), api.CodeClockSkew},
		"fast clock":   {with(good.Secret, func(r *wire.EnrolRequest) { r.Now = r.Now.Add(time.Hour) }), api.CodeClockSkew},
		"bad name":     {with(good.Secret, func(r *wire.EnrolRequest) { r.Name = "No Name" }), api.CodeInvalid},
		"foreign keys": {with(good.Secret, func(r *wire.EnrolRequest) { r.Keys.WireGuard[0] ^= 1 }), api.CodeInvalid},
		"other proto":  {with(good.Secret, func(r *wire.EnrolRequest) { r.Version++ }), api.CodeBadRequest},
	} {
		if _, p := w.machine().tryEnrol(c.req); p == nil || p.Code != c.code {
			t.Errorf("%s: %+v, want %s", name, p, c.code)
		}
	}
	var list api.Page[api.System]
	w.api("GET", "/systems", nil, &list)
	if len(list.Items) != 0 {
		t.Errorf("refused, and yet there are %d systems", len(list.Items))
	}
}

func TestAgentRequestsHaveLimits(t *testing.T) {
	w := newWorld(t)
	key := w.key(automatic())
	m := w.machine()
	m.enrol(key.Secret, "alice")
	big := []byte(`{"version":1,"name":"` + strings.Repeat("a", wire.MaxRequestBody) + `"}`)
	candidates := wire.Reach{Candidates: make([]wire.Candidate, wire.MaxCandidates+1)}
	for name, c := range map[string]struct {
		path   string
		body   any
		status int
	}{
		"body":      {wire.PathEnrol, big, http.StatusRequestEntityTooLarge},
		"depth":     {wire.PathReport, bytes.Repeat([]byte("["), 100), http.StatusBadRequest},
		"twice":     {wire.PathReport, []byte(`{"applied":1,"applied":2}`), http.StatusBadRequest},
		"unknown":   {wire.PathReport, []byte(`{"applied":1,"extra":2}`), http.StatusBadRequest},
		"reach":     {wire.PathReport, wire.Report{Reach: &candidates}, http.StatusUnprocessableEntity},
		"candidate": {wire.PathReport, []byte(`{"applied":1,"reach":{"candidates":[{"kind":"host","addr":"224.0.0.1:9"}]}}`), http.StatusUnprocessableEntity},
		"no route":  {"/agent/v1/other", wire.Report{}, http.StatusNotFound},
	} {
		if p := m.call("POST", c.path, c.body, nil); p == nil || p.Status != c.status {
			t.Errorf("%s: %+v, want %d", name, p, c.status)
		}
	}
	// Without a certificate only enrolment is open.
	for _, path := range []string{wire.PathReport, wire.PathRenew} {
		if _, p := do(t, w.client(nil), "POST", "https://"+w.addr+path, nil, wire.Report{}, nil); p == nil || p.Status != http.StatusForbidden {
			t.Errorf("%s without a certificate: %+v", path, p)
		}
	}
	if _, p := do(t, w.client(nil), "GET", "https://"+w.addr+wire.PathStream, nil, nil, nil); p == nil || p.Status != http.StatusForbidden {
		t.Errorf("stream without a certificate: %+v", p)
	}
}

func TestRenewalReachesThePeers(t *testing.T) {
	w := newWorld(t)
	mesh := w.key(automatic("mesh"))
	w.api("POST", "/policies", direct("mesh", "mesh"), nil)
	a, b := w.machine(), w.machine()
	a.enrol(mesh.Secret, "a")
	b.enrol(mesh.Secret, "b")
	fb := b.stream()
	old := fb.Map.Peers[0].SVID
	rev := fb.Map.Revision
	var resp wire.RenewResponse
	if p := a.call("POST", wire.PathRenew, wire.RenewRequest{Now: time.Now(), Host: wire.Host{Hostname: "moved"}}, &resp); p != nil {
		t.Fatal(p)
	}
	fb.delta()
	if bytes.Equal(old[0], fb.Map.Peers[0].SVID[0]) || !bytes.Equal(resp.SVID[0], fb.Map.Peers[0].SVID[0]) {
		t.Error("the peer was not told of the new certificate")
	}
	if fb.Map.Revision != rev {
		t.Error("a renewal made a revision")
	}
	if key, err := svid.VerifyPeer(&fb.Map.Peers[0], w.srv.Trust().Roots, w.srv.Trust().Org, time.Now()); err != nil || key != a.keys.Identity {
		t.Errorf("renewed for %v: %v", key, err)
	}
	a.use(resp.SVID)
	if f := a.stream(); len(f.Map.Peers) != 1 {
		t.Error("the renewed certificate is of no use")
	}
}

func TestReachReachesThePeers(t *testing.T) {
	w := newWorld(t)
	mesh := w.key(automatic("mesh"))
	w.api("POST", "/policies", direct("mesh", "mesh"), nil)
	a, b := w.machine(), w.machine()
	a.enrol(mesh.Secret, "a")
	b.enrol(mesh.Secret, "b")
	fb := b.stream()
	if p := a.call("POST", wire.PathReport, []byte(`{"applied":0,"reach":{"candidates":[{"kind":"host","addr":"192.0.2.7:4000"}],"nat":"easy"}}`), nil); p != nil {
		t.Fatal(p)
	}
	if fb.delta(); fb.Map.Peers[0].Reach.NAT != "easy" || len(fb.Map.Peers[0].Reach.Candidates) != 1 {
		t.Errorf("reach %+v", fb.Map.Peers[0].Reach)
	}
	w.restart()
	if f := b.stream(); f.Map.Peers[0].Reach.NAT != "easy" {
		t.Error("the reach did not survive a restart")
	}
}

func TestRelayEnrolsAndStandsInMaps(t *testing.T) {
	w := newWorld(t)
	key, sys := w.key(api.KeyCreate{Name: "relays", Kind: store.RelayKey}), w.key(automatic("devs"))
	m := w.machine()
	m.enrol(sys.Secret, "alice")
	f := m.stream()
	r := w.machine()
	req := r.request(key.Secret, "relay")
	req.Relay = &wire.RelayInfo{Addr: "192.0.2.1:443", STUN: []string{"192.0.2.1:3478"}}
	resp, p := r.tryEnrol(req)
	if p != nil || resp.Relay == "" {
		t.Fatalf("relay: %+v %v", resp, p)
	}
	if f.delta(); len(f.Map.Relays) != 1 || f.Map.Relays[0].Addr != "192.0.2.1:443" {
		t.Errorf("relays %+v", f.Map.Relays)
	}
	if p := r.call("GET", wire.PathStream, nil, nil); p == nil || p.Status != http.StatusForbidden {
		t.Errorf("a relay got a map stream: %+v", p)
	}
	if p := r.call("POST", wire.PathRenew, wire.RenewRequest{Now: time.Now()}, nil); p != nil {
		t.Errorf("a relay cannot renew: %v", p)
	}
	moved := wire.RelayInfo{Addr: "192.0.2.2:8443", STUN: []string{"192.0.2.2:3478"}}
	for range 2 { // the second one is no news
		if p := r.call("POST", wire.PathRelay, moved, nil); p != nil {
			t.Errorf("a relay cannot move: %v", p)
		}
	}
	if f.delta(); len(f.Map.Relays) != 1 || f.Map.Relays[0].Addr != moved.Addr {
		t.Errorf("relays %+v", f.Map.Relays)
	}
	for name, c := range map[string]struct {
		by     *machine
		info   any
		status int
	}{
		"a system":   {m, moved, http.StatusForbidden},
		"no address": {r, wire.RelayInfo{Addr: "nowhere"}, http.StatusUnprocessableEntity},
		"more":       {r, map[string]any{"addr": "192.0.2.3:1", "id": "another"}, http.StatusBadRequest},
	} {
		if p := c.by.call("POST", wire.PathRelay, c.info, nil); p == nil || p.Status != c.status {
			t.Errorf("%s moves a relay: %+v, want %d", name, p, c.status)
		}
	}
	w.api("DELETE", "/relays/"+string(resp.Relay), nil, nil)
	if f.delta(); len(f.Map.Relays) != 0 {
		t.Errorf("relays %+v", f.Map.Relays)
	}
	if p := r.call("POST", wire.PathRelay, wire.RelayInfo{Addr: "192.0.2.3:1"}, nil); p == nil || p.Status/100 != 4 {
		t.Errorf("a relay that is deleted moves: %+v", p)
	}
}
