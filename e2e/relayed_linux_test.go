package e2e

import (
	"strings"
	"testing"
)

// TestWithoutUDP: on a network that lets no UDP pass, everything goes over the relay,
// and the peers know why. The network is a namespace of this test's own, with loopback
// alone and a rule that refuses UDP; it needs no root, but a system that lets users
// have namespaces, and the ip command.
func TestWithoutUDP(t *testing.T) {
	if !alone(t) {
		return
	}
	here(t).withoutUDP()
	l := newLab(t)
	socks := freePort(t)
	service := l.agent("web", "--expose", "8080="+greeter(t, "hello"))
	l.agent("laptop", "--socks", socks)
	l.connected(2)
	l.introduce("tcp/8080")
	works := func() {
		t.Helper()
		l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1m")
		if !reaches(socks, "http://web.enclave:8080/", "hello") {
			t.Error("the service does not answer over the relay")
		}
		if out := l.ok("ping", "web", "--state", l.path("laptop"), "--count", "1"); !strings.Contains(out, "via relay ") {
			t.Errorf("ping says %q", out)
		}
	}
	works()
	var status agentStatus
	if l.decode(&status, "agent", "status", "--state", l.path("laptop")); len(status.Peers) != 1 || status.Peers[0].Route != "relay" || status.Peers[0].WhyNotDirect == "" {
		t.Errorf("the path to the server: %+v", status.Peers)
	}
	l.ok("policy", "disable", "p", "--wait")
	if reaches(socks, "http://web.enclave:8080/", "hello") {
		t.Error("the service is reached though the policy is disabled")
	}
	l.ok("policy", "enable", "p", "--wait")
	works()
	if strings.Contains(service.stderr(), "panic") {
		t.Error(service.stderr())
	}
}
