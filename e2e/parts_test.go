package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"enclave/cli/node"
	"enclave/wire/svid"
)

// startControl runs the control plane alone.
func (l *lab) startControl(listen string) {
	l.t.Helper()
	l.serve(l.start("control", "control", "--json", "--state", l.path("control"), "--listen", listen))
}

// relay is the command line of a relay that listens at an address and has that name.
func (l *lab) relay(name, listen string, more ...string) []string {
	return append([]string{"relay", "--state", l.path(name), "--control", l.up.URL, "--ca-fingerprint", l.up.Fingerprint,
		"--name", name, "--listen", listen}, more...)
}

// TestControlAndRelayApart: three kinds of process, each killed with -9 and back from
// its state, then each ended with Ctrl-C.
func TestControlAndRelayApart(t *testing.T) {
	l := emptyLab(t)
	l.startControl(freePort(t))
	u, _ := url.Parse(l.up.URL)
	relayAt, stunAt := freePort(t), freePort(t)
	relayArgs := l.relay("relay", relayAt, "--stun", stunAt)
	relay := l.start("relay", append(relayArgs, "--key-file", l.key("--relay", "--uses", "1"))...)
	until(t, 20*time.Second, "the relay enrols", func() bool {
		var relays []struct{ Addr string }
		l.decode(&relays, "relays", "list")
		return len(relays) == 1 && relays[0].Addr == relayAt
	})
	socks := freePort(t)
	key := l.secret("first.key", l.up.EnrolmentKey)
	web := l.enrolling("web", key, "--expose", "8080="+greeter(t, "hello"))
	laptop := l.enrolling("laptop", key, "--socks", socks)
	l.connected(2)
	l.introduce("tcp/8080")
	works := func(when string) {
		t.Helper()
		l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1m")
		if !reaches(socks, "http://web.enclave:8080/", "hello") {
			t.Errorf("%s: the service does not answer", when)
		}
	}
	homes := func() bool {
		var systems []struct{ Relay string }
		l.decode(&systems, "system", "list", "--state-is", "connected")
		return len(systems) == 2 && systems[0].Relay != "" && systems[1].Relay != ""
	}
	works("at first")
	until(t, 20*time.Second, "both have the relay as their home", homes)

	relay.kill()
	works("without the relay")
	relay = l.start("relay", relayArgs...) // no key: its state is enough
	works("with the relay back")

	l.wroteDown("laptop")
	control := l.upProcess
	control.kill()
	works("without the control plane")
	laptop.kill()
	laptop = l.enrolling("laptop", key, "--socks", socks)
	works("with an agent restarted while the control plane is away")
	l.startControl(u.Host)
	l.connected(2)
	works("with the control plane back")
	until(t, 30*time.Second, "both have a home again", homes)

	for _, p := range []*process{laptop, web, relay, l.upProcess} {
		if exit := p.interrupt(); exit != 0 {
			t.Errorf("Ctrl-C of %s: exit %d\n%s", p.name, exit, tail(p.stderr(), 500))
		}
	}
	if out, _ := io.ReadAll(relay.out); len(out) != 0 {
		t.Errorf("the relay prints %q", out)
	}
}

// TestUpEndsAtOnce although agents hang on it.
func TestUpEndsAtOnce(t *testing.T) {
	l := newLab(t)
	l.agent("web")
	l.connected(1)
	if exit := l.upProcess.interrupt(); exit != 0 {
		t.Errorf("Ctrl-C of up: exit %d\n%s", exit, l.upProcess.stderr())
	}
	l.refused(6, "unreachable", "system", "list")
}

// TestAnAgentWaitsForControl: started first, it says so and enrols once it is there.
func TestAnAgentWaitsForControl(t *testing.T) {
	l := newLab(t)
	u, _ := url.Parse(l.up.URL)
	l.ok("status") // it serves: its first key is in force
	l.upProcess.kill()
	web := l.agent("web")
	until(t, 10*time.Second, "the agent says that it waits", func() bool { return strings.Contains(web.stderr(), "waits for the control plane") })
	l.startUp(u.Host)
	l.connected(1)
}

// TestWaitforTimesOut, whatever is missing: the agent, a policy, or the peer.
func TestWaitforTimesOut(t *testing.T) {
	l := newLab(t)
	l.refused(6, "no_agent", "waitfor", "web", "--state", l.path("laptop"), "--timeout", "200ms")
	web := l.agent("web")
	l.agent("laptop")
	l.connected(2)
	l.refused(6, "unknown_name", "waitfor", "web", "--state", l.path("laptop"), "--timeout", "200ms")
	l.ok("tag", "add", "web", "mesh")
	l.ok("tag", "add", "laptop", "mesh")
	l.ok("policy", "create", "p", "--from", "mesh", "--to", "mesh", "--allow", "any", "--wait")
	l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1m")
	web.kill()
	if _, errs, exit := l.run("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1s"); exit != 6 || !strings.Contains(errs, "waited 1s") {
		t.Errorf("waitfor a system that is gone: exit %d, %s", exit, errs)
	}
	within(t, 5*time.Second, "ping of a system that is gone", func() { // three probes, a second apart
		if _, errs, exit := l.run("ping", "web", "--state", l.path("laptop"), "--timeout", "500ms"); exit != 6 || !strings.Contains(errs, "within 500ms") {
			t.Errorf("ping a system that is gone: exit %d, %s", exit, errs)
		}
	})
}

// TestPolicyEval answers questions without a server, the bad one included.
func TestPolicyEval(t *testing.T) {
	l := emptyLab(t)
	questions := `{"id":"good","instant":"2026-03-29T00:30:00Z","systems":[
		{"id":"a1","ip":"100.64.0.1","tags":["dev"],"enabled":true,"expires_at":null,"trust":[]},
		{"id":"b1","ip":"100.64.0.2","tags":["pods"],"enabled":true,"expires_at":null,"trust":[]}],
		"policies":[{"id":"p1","type":"direct","enabled":true,"sender_tags":["dev"],"receiver_tags":["pods"],"acls":[{"protocol":"tcp","ports":"80"}],"expires_at":null,"active_hours":null,"trust_requirements":[],"gateways":[]}],
		"packets":[{"src_ip":"100.64.0.1","dst_ip":"100.64.0.2","proto":"tcp","sport":40000,"dport":80,"is_reply":false},
		           {"src_ip":"100.64.0.2","dst_ip":"100.64.0.1","proto":"tcp","sport":40000,"dport":80,"is_reply":false}]}`
	questions = strings.ReplaceAll(strings.ReplaceAll(questions, "\n", ""), "\t", "")
	file := l.path("questions.json")
	if err := os.WriteFile(file, []byte(questions+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var answer struct {
		ID        string
		Connected [][2]string
		Verdicts  []struct {
			Allow  bool
			Policy string
		}
	}
	if err := json.Unmarshal([]byte(l.ok("policy", "eval", file)), &answer); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(answer) != "{good [[a1 b1]] [{true p1} {false }]}" {
		t.Errorf("answer: %v", answer)
	}
	bad := strings.Replace(strings.Replace(questions, "good", "bad", 1), `"ports":"80"`, `"ports":"0"`, 1)
	if err := os.WriteFile(file, []byte(bad+"\n"+questions+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, exit := l.run("policy", "eval", file, "--json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if exit != 2 || len(lines) != 2 || !strings.Contains(lines[0], `"path":"policies[0].acls[0].ports"`) || !strings.Contains(lines[1], `"verdicts"`) || !json.Valid([]byte(errs)) {
		t.Errorf("a bad question and a good one: exit %d\n%s%s", exit, out, errs)
	}
}

// TestAPI is what a program sees that knows the address, the root and the token.
func TestAPI(t *testing.T) {
	l := newLab(t)
	token, err := os.ReadFile(l.up.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: svid.FirstContactConfig(l.up.Fingerprint, time.Now)}}
	defer client.CloseIdleConnections()
	call := func(method, path, body, ifMatch string, signed bool) (int, http.Header, string) {
		t.Helper()
		req, err := http.NewRequest(method, l.up.URL+"/api/v1"+path, bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		if signed {
			req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		}
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		if ifMatch != "" {
			req.Header.Set("If-Match", ifMatch)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, resp.Header, string(b)
	}

	status, _, body := call("GET", "/openapi.json", "", "", false)
	var doc struct {
		OpenAPI string
		Paths   map[string]any
	}
	if err := json.Unmarshal([]byte(body), &doc); status != 200 || err != nil || !strings.HasPrefix(doc.OpenAPI, "3.1") || doc.Paths["/api/v1/policies/{policy}"] == nil {
		t.Errorf("openapi.json: %d, %v, %.200s", status, err, body)
	}
	if status, h, body := call("GET", "/docs", "", "", false); status != 200 || !strings.HasPrefix(h.Get("Content-Type"), "text/html") || strings.Contains(body, "http://") {
		t.Errorf("docs: %d %s", status, h.Get("Content-Type"))
	}
	if status, h, body := call("GET", "/systems", "", "", false); status != 401 || h.Get("Content-Type") != "application/problem+json" || h.Get("WWW-Authenticate") == "" {
		t.Errorf("without a token: %d %s", status, body)
	}

	policy := `{"name":"p","type":"direct","enabled":true,"sender_tags":["a"],"receiver_tags":["b"],"acls":[{"protocol":"tcp","ports":"80"}]}`
	status, h, body := call("POST", "/policies", policy, "", true)
	first := h.Get("ETag")
	if status != 201 || first == "" {
		t.Fatalf("create a policy: %d, ETag %q: %s", status, first, body)
	}
	status, h, body = call("PUT", "/policies/p", strings.Replace(policy, `"80"`, `"81"`, 1), first, true)
	if status != 200 || h.Get("ETag") == first {
		t.Errorf("replace it: %d, ETag %q: %s", status, h.Get("ETag"), body)
	}
	if status, _, body := call("PUT", "/policies/p", policy, first, true); status != 412 || !strings.Contains(body, `"stale"`) {
		t.Errorf("replace a version that is gone: %d %s", status, body)
	}
	if status, _, body := call("DELETE", "/policies/p", "", first, true); status != 412 || !strings.Contains(body, `"stale"`) {
		t.Errorf("delete a version that is gone: %d %s", status, body)
	}
	if status, _, body := call("GET", "/policies/p", "", "", true); status != 200 || !strings.Contains(body, `"81"`) {
		t.Errorf("after the stale ones: %d %s", status, body)
	}

	// Somebody who believes the public roots gets nowhere, and neither does plain HTTP.
	stranger := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}}}
	if _, err := stranger.Get(l.up.URL + "/api/v1/version"); err == nil {
		t.Error("a client without the root is served")
	}
}

// wroteDown waits until an agent's state on disk names a peer: it is written beside
// the work, a second late at most.
func (l *lab) wroteDown(name string) {
	l.t.Helper()
	var status agentStatus
	l.decode(&status, "agent", "status", "--state", l.path(name))
	until(l.t, 10*time.Second, name+" has written down whom it knows", func() bool {
		k := node.Keeper{Dir: l.path(name), File: "agent.json"} // sealed, and opened as the agent does
		state, _ := k.Load()
		return bytes.Contains(state, []byte(`"`+status.Peers[0].ID+`"`))
	})
}
