package e2e

import (
	"net"
	"strings"
	"testing"
	"time"
)

// TestStraightByTCP: no UDP at all. The server takes peers by TCP: the laptop reaches it
// directly, in one download that the death of the relay does not disturb, until the policy
// ends; a stranger at that port is shown nothing.
func TestStraightByTCP(t *testing.T) {
	if !alone(t) {
		return
	}
	here(t).withoutUDP()
	l := emptyLab(t)
	l.startControl("127.0.0.1:0")
	relay := l.start("relay", l.relay("relay", freePort(t), "--key-file", l.key("--relay", "--uses", "1"))...)
	if line := relay.line(20 * time.Second); !strings.Contains(line, " serves at ") {
		t.Fatalf("the relay says %q", line)
	}
	const size = 4 << 20
	forward, listens := freePort(t), freePort(t)
	key := l.secret("first.key", l.up.EnrolmentKey)
	l.enrolling("web", key, "--expose", "8080="+serveBytes(t, size), "--listen-tcp", listens)
	l.enrolling("laptop", key, "--forward", forward+"=web.enclave:8080")
	l.connected(2)
	l.introduce("tcp/8080")
	out := l.ok("ping", "web", "--until-direct", "--count", "120", "--interval", "500ms", "--state", l.path("laptop"))
	if !strings.Contains(out, "direct (tcp) via "+listens) {
		t.Errorf("ping says %q", out)
	}
	out = l.ok("agent", "status", "--state", l.path("laptop"))
	if !strings.Contains(out, "direct (tcp)") || !strings.Contains(out, "web is direct by TCP and not by UDP: ") {
		t.Errorf("status says %q", out)
	}
	if out = l.ok("agent", "status", "--state", l.path("web")); !strings.Contains(out, "peers may come by TCP at "+listens) {
		t.Errorf("status of the server says %q", out)
	}
	var s struct{ Peers []struct{ Route, Via string } }
	l.decode(&s, "agent", "status", "--state", l.path("laptop"))
	if len(s.Peers) != 1 || s.Peers[0].Route != "direct" || s.Peers[0].Via != "tcp "+listens {
		t.Errorf("status %+v", s)
	}

	got, begun := make(chan error, 1), make(chan struct{})
	go func() { got <- fetchSlowly("http://"+forward+"/", size, begun) }()
	<-begun
	relay.cmd.Process.Kill()
	if err := <-got; err != nil {
		t.Errorf("the relay died, and the download: %v", err)
	}

	c, err := net.Dial("tcp", listens)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 256)
	if n, _ := c.Read(b); n > 7 { // an alert of TLS at most
		t.Errorf("a stranger is told %q", b[:n])
	}

	l.ok("policy", "disable", "p", "--wait")
	l.decode(&s, "agent", "status", "--state", l.path("laptop"))
	if len(s.Peers) != 0 {
		t.Errorf("after the policy's end: %+v", s)
	}
}
