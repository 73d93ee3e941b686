package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// greeter answers every request with a sentence.
func greeter(t *testing.T, says string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, says) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// reaches reports whether the service answers through a proxy.
func reaches(socks, url, says string) bool {
	status, body, err := fetch(through("socks5h://"+socks), url)
	return err == nil && status == 200 && body == says
}

// TestAPendingSystemGetsNothing: a key approves by hand unless it says otherwise, and
// nobody hears of a system before that.
func TestAPendingSystemGetsNothing(t *testing.T) {
	l := newLab(t)
	l.agent("web", "--expose", "8080="+greeter(t, "hello"))
	l.connected(1)
	l.ok("tag", "add", "web", "servers")
	l.ok("policy", "create", "p", "--from", "laptops", "--to", "servers", "--allow", "tcp/8080")
	socks := freePort(t)
	// The tag comes with the key: only the approval is missing.
	l.enrolling("laptop", l.key("--tag", "laptops", "--uses", "1"), "--socks", socks)
	until(t, 20*time.Second, "the laptop waits for approval", func() bool {
		var systems []listed
		l.decode(&systems, "system", "list", "--state-is", "pending")
		return len(systems) == 1 && systems[0].Name == "laptop"
	})
	var status agentStatus
	until(t, 10*time.Second, "the laptop knows that it waits", func() bool {
		l.decode(&status, "agent", "status", "--state", l.path("laptop"))
		return status.State == "pending"
	})
	if len(status.Peers) != 0 {
		t.Errorf("a pending system has peers: %+v", status.Peers)
	}
	if says := l.refused(6, "unknown_name", "waitfor", "web", "--state", l.path("laptop"), "--timeout", "300ms"); !strings.Contains(says, "waited 300ms") {
		t.Errorf("waitfor says %q", says)
	}
	if reaches(socks, "http://web.enclave:8080/", "hello") {
		t.Fatal("a pending system reaches a service")
	}
	l.ok("system", "approve", "laptop", "--wait")
	l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1m")
	if !reaches(socks, "http://web.enclave:8080/", "hello") {
		t.Error("the approved system does not reach the service")
	}
	l.refused(1, "conflict", "system", "approve", "laptop")
}

type agentStatus struct {
	State string
	Self  struct{ ID string }
	Peers []struct {
		ID, Name, Route, Via string
		WhyNotDirect         string `json:"why_not_direct"`
	}
}

// TestAnEphemeralSystemGoes a short time after it disconnects.
func TestAnEphemeralSystemGoes(t *testing.T) {
	l := newLab(t)
	run := l.enrolling("run", l.key("--ephemeral", "--retention", "1s"))
	if s := l.connected(1)[0]; s.Name != "run" {
		t.Fatalf("connected: %+v", s)
	}
	if exit := run.interrupt(); exit != 0 {
		t.Errorf("Ctrl-C of an agent: exit %d\n%s", exit, run.stderr())
	}
	until(t, 20*time.Second, "the ephemeral system is gone", func() bool {
		var systems []listed
		l.decode(&systems, "system", "list")
		return len(systems) == 0
	})
	l.refused(5, "not_found", "system", "show", "run")
}

// TestRevokeEndsAnAgent: it exits with 4, its peer forgets it, and its state buys
// nothing any more.
func TestRevokeEndsAnAgent(t *testing.T) {
	l := newLab(t)
	web := l.agent("web")
	l.agent("laptop")
	l.connected(2)
	l.ok("tag", "add", "web", "mesh")
	l.ok("tag", "add", "laptop", "mesh")
	l.ok("policy", "create", "p", "--from", "mesh", "--to", "mesh", "--allow", "any", "--wait")
	l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1m")
	l.ok("system", "revoke", "web", "--wait")
	if exit := web.exits(10 * time.Second); exit != 4 || !strings.Contains(web.stderr(), "revoked") {
		t.Errorf("the revoked agent: exit %d\n%s", exit, web.stderr())
	}
	var status agentStatus
	if l.decode(&status, "agent", "status", "--state", l.path("laptop")); len(status.Peers) != 0 {
		t.Errorf("its peer remembers it: %+v", status.Peers)
	}
	l.refused(5, "unknown_name", "ping", "web", "--state", l.path("laptop"))
	if exit := l.agent("web").exits(20 * time.Second); exit != 4 {
		t.Errorf("the revoked agent once more: exit %d, want 4", exit)
	}
}

// TestDisableCutsADownload: whoever reads it sees a reset. A clean end would look
// like all of the file.
func TestDisableCutsADownload(t *testing.T) {
	l := newLab(t)
	service := endless(t)
	forward := freePort(t)
	l.agent("web", "--expose", "8080="+service)
	l.agent("laptop", "--forward", forward+"=web.enclave:8080")
	l.connected(2)
	l.ok("tag", "add", "web", "servers")
	l.ok("tag", "add", "laptop", "laptops")
	for _, cut := range []struct{ with, undo []string }{
		{[]string{"policy", "disable", "p"}, []string{"policy", "enable", "p"}},
		{[]string{"system", "disable", "web"}, []string{"system", "enable", "web"}},
		{[]string{"tag", "remove", "laptop", "laptops"}, nil},
	} {
		if cut.with[0] == "policy" {
			l.ok("policy", "create", "p", "--from", "laptops", "--to", "servers", "--allow", "tcp/8080", "--wait")
		}
		l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1m")
		c, err := net.Dial("tcp", forward)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := io.CopyN(io.Discard, c, 1<<20); err != nil {
			t.Fatalf("the download does not start: %v", err)
		}
		ended := make(chan error, 1)
		go func() { _, err := io.Copy(io.Discard, c); ended <- err }()
		l.ok(append(cut.with, "--wait")...)
		began := time.Now()
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v: the client sees %v after %s, want a reset", cut.with, err, time.Since(began))
		}
		c.Close()
		if cut.undo != nil {
			l.ok(append(cut.undo, "--wait")...)
		}
	}
}

// endless sends zeroes to whoever connects, for as long as it is read.
func endless(t *testing.T) string {
	t.Helper()
	return serving(t, func(c net.Conn) {
		for block := make([]byte, 64<<10); ; {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	})
}

// TestRealClients: curl as people type it, and a datagram through SOCKS5.
func TestRealClients(t *testing.T) {
	l := newLab(t)
	socks, proxy := freePort(t), freePort(t)
	l.agent("web", "--expose", "8080="+greeter(t, "hello"), "--expose", "53="+udpEcho(t)+"/udp")
	l.agent("laptop", "--socks", socks, "--http-proxy", proxy)
	systems := l.connected(2)
	l.introduce("tcp/8080", "udp/53")
	l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1m")

	if got := overSOCKS(t, socks, "web.enclave", 53, "ping me"); got != "ping me" {
		t.Errorf("UDP through SOCKS5: %q", got)
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl here")
	}
	id := systems[0].ID
	if systems[0].Name != "web" {
		id = systems[1].ID
	}
	for _, args := range [][]string{
		{"--socks5-hostname", socks, "http://web.enclave:8080/"},
		{"--socks5-hostname", socks, "http://" + id + ".id.enclave:8080/"},
		{"--proxy", "http://" + proxy, "http://web.enclave:8080/"},
		{"--proxy", "http://" + proxy, "--proxytunnel", "http://web.enclave:8080/"},
	} {
		out, err := exec.Command(curl, append([]string{"-sS", "--max-time", "60"}, args...)...).CombinedOutput()
		if err != nil || string(out) != "hello" {
			t.Errorf("curl %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	for _, args := range [][]string{
		{"--socks5-hostname", socks, "http://web.enclave:8081/"},    // no rule
		{"--socks5-hostname", socks, "http://nobody.enclave:8080/"}, // no such name
	} {
		cmd := exec.Command(curl, append([]string{"-sS", "--max-time", "60"}, args...)...)
		if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() == 28 { // it waited for all of its time
			t.Errorf("curl %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
}

func udpEcho(t *testing.T) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		for b := make([]byte, 2048); ; {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(b[:n], from)
		}
	}()
	return pc.LocalAddr().String()
}

// overSOCKS sends one datagram with UDP ASSOCIATE (RFC 1928, section 7) until an
// answer comes.
func overSOCKS(t *testing.T, proxy, host string, port byte, says string) string {
	t.Helper()
	c, err := net.Dial("tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	answer := make([]byte, 2+10)
	fmt.Fprint(c, "\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00") // no password; associate 0.0.0.0:0
	if _, err := io.ReadFull(c, answer); err != nil || answer[1] != 0 || answer[3] != 0 || answer[5] != 1 {
		t.Fatalf("UDP ASSOCIATE: % x, %v", answer, err)
	}
	u, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: answer[6:10], Port: int(answer[10])<<8 | int(answer[11])})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	packet := append([]byte{0, 0, 0, 3, byte(len(host))}, host+string([]byte{0, port})+says...)
	b := make([]byte, 2048)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err := u.Write(packet); err != nil {
			t.Fatal(err)
		}
		_ = u.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if n, err := u.Read(b); err == nil && n >= 10 && b[3] == 1 {
			return string(b[10:n])
		}
	}
	return ""
}
