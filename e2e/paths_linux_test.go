package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The rules of a home router. Masquerading keeps ports where it can, so it maps the same
// way for everybody, and lets in only whom was sent to; fully random it is the symmetric
// NAT. What was not asked for is dropped, as routers do.
const (
	homeRouter = `table ip t {
		chain in { type filter hook input priority 0; iifname "wan" ct state new drop; }
		chain post { type nat hook postrouting priority 100; %s oifname "wan" masquerade %s; }
	}
	`
	noUDP = "table ip block { chain f { type filter hook forward priority 0; meta l4proto udp drop; }\n}\n"
)

var (
	easyNAT      = fmt.Sprintf(homeRouter, "", "")
	symmetricNAT = fmt.Sprintf(homeRouter, "", "fully-random")
)

// home is a router on the test's internet with one system behind it.
type home struct {
	router, host *namespace
	outside      string // the router's address
	port         uint16 // of the agent's UDP socket
}

// newHome is the n-th. The internet is the namespace that the test runs in.
func newHome(t *testing.T, internet *namespace, n int, rules string) *home {
	t.Helper()
	h := &home{router: newNamespace(t), host: newNamespace(t), outside: fmt.Sprintf("198.51.100.%d", 4*n+2), port: uint16(41000 + n)}
	join := func(a *namespace, nameA, addrA string, b *namespace, nameB, addrB string) {
		a.ip(fmt.Sprintf("link add %s type veth peer name %s", nameA, nameB))
		a.ip("link set "+nameB+" netns "+b.handle(), "addr add "+addrA+" dev "+nameA, "link set "+nameA+" up")
		b.ip("addr add "+addrB+" dev "+nameB, "link set "+nameB+" up")
	}
	join(internet, fmt.Sprintf("up%d", n), fmt.Sprintf("198.51.100.%d/30", 4*n+1), h.router, "wan", h.outside+"/30")
	join(h.router, "lan", fmt.Sprintf("192.168.%d.1/24", n), h.host, "eth0", fmt.Sprintf("192.168.%d.5/24", n))
	h.router.ip(fmt.Sprintf("route add default via 198.51.100.%d", 4*n+1))
	h.host.ip(fmt.Sprintf("route add default via 192.168.%d.1", n))
	h.router.write("/proc/sys/net/ipv4/ip_forward", "1")
	h.router.nft(rules)
	return h
}

// handle is a name of the namespace that the ip command takes: a process in it would do
// as well, but there is none. It inherits the open file.
func (n *namespace) handle() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// twoHomes is a control plane with a relay and STUN on two addresses and two ports, and a
// system in each of two homes, as real processes.
func twoHomes(t *testing.T, rules [2]string) (*lab, [2]*home) {
	t.Helper()
	internet := publicSide(t)
	homes := [2]*home{newHome(t, internet, 0, rules[0]), newHome(t, internet, 1, rules[1])}
	l := emptyLab(t)
	l.startOnInternet()
	return l, homes
}

// publicSide is the namespace that the test runs in, with two addresses of its own.
func publicSide(t *testing.T) *namespace {
	t.Helper()
	internet := here(t)
	internet.ip("link set lo up", "addr add 203.0.113.1/32 dev lo", "addr add 203.0.113.2/32 dev lo")
	internet.write("/proc/sys/net/ipv4/ip_forward", "1")
	return internet
}

// startOnInternet starts up where a NAT's kind can be told: two addresses, two ports.
func (l *lab) startOnInternet() {
	l.t.Helper()
	l.serve(l.start("up", "up", "--json", "--state", l.path("up"), "--listen", "203.0.113.1:8443",
		"--stun", "203.0.113.1:3478", "--stun", "203.0.113.1:3479", "--stun", "203.0.113.2:3478"))
}

// startIn starts an agent in a home.
func (h *home) startIn(l *lab, name string, more ...string) {
	l.t.Helper()
	if err := h.host.do(func() error {
		l.agent(name, append([]string{"--port", fmt.Sprint(h.port)}, more...)...)
		return nil
	}); err != nil {
		l.t.Fatal(err)
	}
}

// peerRoute is how name reaches its only peer.
func peerRoute(l *lab, name string) (route, via, why string) {
	l.t.Helper()
	var s agentStatus
	if l.decode(&s, "agent", "status", "--state", l.path(name)); len(s.Peers) == 0 {
		return "", "", ""
	}
	return s.Peers[0].Route, s.Peers[0].Via, s.Peers[0].WhyNotDirect
}

type netcheckJSON struct {
	Summary string
	Report  struct{ Mapping, Hairpin string }
}

func (h *home) netcheck(l *lab, name string) (out netcheckJSON) {
	l.t.Helper()
	var text string
	if err := h.host.do(func() error { text = l.ok("netcheck", "--state", l.path(name), "--json"); return nil }); err != nil {
		l.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		l.t.Fatal(err)
	}
	return out
}

// TestTwoHomes: two agents behind the kernel's own NATs become direct; with UDP blocked
// they go on by relay, and are direct again without the block; a NAT that forgets and
// maps anew costs a moment. One TCP connection lives through all of it.
func TestTwoHomes(t *testing.T) {
	if !alone(t) {
		return
	}
	l, homes := twoHomes(t, [2]string{easyNAT, easyNAT})
	var at string
	if err := homes[0].host.do(func() (err error) { at, err = ticker(t); return err }); err != nil {
		t.Fatal(err)
	}
	homes[0].startIn(l, "web", "--expose", "8080="+at)
	homes[1].startIn(l, "laptop", "--socks", "127.0.0.1:1080")
	l.connected(2)
	l.ok("tag", "add", "web", "servers")
	l.ok("tag", "add", "laptop", "laptops")
	began := time.Now()
	l.ok("policy", "create", "p", "--from", "laptops", "--to", "servers", "--allow", "tcp/8080", "--allow", "icmp", "--wait")
	out := l.ok("ping", "web", "--until-direct", "--interval", "100ms", "--count", "600", "--state", l.path("laptop"))
	t.Logf("direct %s after the policy: %s", time.Since(began).Round(time.Millisecond), lastLine(out))
	for name, want := range map[string]string{"laptop": homes[0].outside, "web": homes[1].outside} {
		until(t, 10*time.Second, name+" reaches its peer directly at "+want, func() bool {
			route, via, _ := peerRoute(l, name)
			return route == "direct" && strings.HasPrefix(via, want+":")
		})
	}
	if out := l.ok("ping", "web", "--icmp", "--count", "1", "--state", l.path("laptop")); !strings.Contains(out, "direct via "+homes[0].outside) || !strings.Contains(out, "through the tunnel in ") {
		t.Errorf("ping --icmp says %q", out)
	}
	if out := l.ok("ping", "laptop", "--icmp", "--count", "1", "--state", l.path("web")); !strings.Contains(out, "no rule lets web send icmp to laptop") {
		t.Errorf("ping --icmp without a rule says %q", out)
	}
	if n := homes[1].netcheck(l, "laptop"); n.Report.Mapping != "endpoint-independent" || n.Report.Hairpin != "no" {
		t.Errorf("netcheck: %+v", n)
	}

	var s agentPeers
	l.decode(&s, "agent", "status", "--state", l.path("laptop"))
	overlay := s.Peers[0].IPv4.String()
	if out := l.ok("ping", overlay, "--json", "--count", "3", "--interval", "10ms", "--state", l.path("laptop")); strings.Count(out, "\n") != 3 || strings.Count(out, `"name":"web"`) != 3 {
		t.Errorf("ping %s --json says %q", overlay, out)
	}
	l.refused(5, "unknown_name", "ping", "nobody", "--state", l.path("laptop"))
	beats := follow(t, homes[1], s.Peers[0].IPv4)
	becomes := func(what, name, route string, within time.Duration) {
		t.Helper()
		began := time.Now()
		until(t, within, what, func() bool { r, _, _ := peerRoute(l, name); return r == route })
		t.Logf("%s: after %s", what, time.Since(began).Round(100*time.Millisecond))
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range []string{"laptop", "web"} {
				t.Log(l.run("agent", "status", "--state", l.path(name)))
				t.Log(l.run("ping", map[string]string{"laptop": "web", "web": "laptop"}[name], "-c", "1", "--icmp", "--state", l.path(name)))
			}
		}
	})
	homes[1].router.nft(easyNAT + noUDP)
	becomes("UDP is blocked, by relay", "laptop", "relay", 15*time.Second)
	beats.more(t, "with UDP blocked")
	homes[1].router.nft(easyNAT)
	becomes("UDP passes, direct again", "laptop", "direct", 80*time.Second)
	beats.more(t, "with UDP back")

	// The NAT reboots: it has forgotten, and picks another port.
	homes[1].router.nft(fmt.Sprintf(homeRouter, fmt.Sprintf(`oifname "wan" udp sport %d masquerade to :45678;`, homes[1].port), ""))
	homes[1].router.flush()
	rebound := time.Now()
	until(t, 60*time.Second, "the peer sees the new mapping", func() bool {
		r, via, _ := peerRoute(l, "web")
		return r == "direct" && via == homes[1].outside+":45678"
	})
	t.Logf("the NAT forgot and maps anew, direct there: after %s", time.Since(rebound).Round(100*time.Millisecond))
	beats.more(t, "after the NAT rebooted")
	t.Logf("the longest silence of the one TCP connection: %s", time.Duration(beats.gap.Load()).Round(time.Millisecond))
	if beats.ended.Load() {
		t.Error("the TCP connection ended")
	}
}

// TestSymmetricHomes: behind two NATs that map by destination there is no direct path,
// and everybody says why.
func TestSymmetricHomes(t *testing.T) {
	if !alone(t) {
		return
	}
	l, homes := twoHomes(t, [2]string{symmetricNAT, symmetricNAT})
	homes[0].startIn(l, "web")
	homes[1].startIn(l, "laptop")
	l.connected(2)
	l.introduce("tcp/8080")
	l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1m")
	until(t, 60*time.Second, "the reason is known", func() bool {
		route, _, why := peerRoute(l, "laptop")
		return route == "relay" && why == "hard-nat"
	})
	l.refusedText(6, "not_direct", "ping", "web", "--until-direct", "--count", "2", "--state", l.path("laptop"))
	if n := homes[1].netcheck(l, "laptop"); n.Report.Mapping != "address-and-port-dependent" || !strings.Contains(n.Summary, "falls back to relay") {
		t.Errorf("netcheck: %+v", n)
	}
}

// refusedText is refused for a verb that prints before it fails.
func (l *lab) refusedText(exit int, code string, args ...string) {
	l.t.Helper()
	_, errs, got := l.run(append(args, "--json")...)
	if got != exit || !strings.Contains(errs, `"code":"`+code+`"`) {
		l.t.Errorf("enclave %s: exit %d, want %d %s\n%s", strings.Join(args, " "), got, exit, code, errs)
	}
}

type agentPeers struct {
	Peers []struct {
		IPv4 netip.Addr `json:"ipv4"`
	}
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// ticker serves a line every 50 ms for ever, over one connection.
func ticker(t *testing.T) (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
			}
			if _, err := fmt.Fprintf(w, "%d\n", n); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	})}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	return ln.Addr().String(), nil
}

// beat is what has come over one connection.
type beat struct {
	lines atomic.Int64
	gap   atomic.Int64 // nanoseconds
	ended atomic.Bool
}

// follow opens a connection through the agent's proxy in a home and reads it until the
// test ends.
func follow(t *testing.T, h *home, addr netip.Addr) *beat {
	t.Helper()
	var c net.Conn
	if err := h.host.do(func() (err error) { c, err = viaSOCKS("127.0.0.1:1080", addr.As4(), 8080); return err }); err != nil {
		t.Fatal(err)
	}
	var b beat
	done := make(chan struct{})
	t.Cleanup(func() { c.Close(); <-done })
	go func() {
		defer close(done)
		io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		r := bufio.NewReader(c)
		for last := time.Now(); ; b.lines.Add(1) {
			if _, err := r.ReadString('\n'); err != nil {
				b.ended.Store(true)
				return
			}
			now := time.Now()
			b.gap.Store(max(b.gap.Load(), int64(now.Sub(last))))
			last = now
		}
	}()
	b.more(t, "at first")
	return &b
}

// more waits for some lines more.
func (b *beat) more(t *testing.T, when string) {
	t.Helper()
	had := b.lines.Load()
	until(t, 20*time.Second, "the connection goes on "+when, func() bool { return b.lines.Load() > had+10 || b.ended.Load() })
	if b.ended.Load() {
		t.Errorf("the connection has ended %s", when)
	}
}
