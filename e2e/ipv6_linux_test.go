package e2e

import (
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestIPv6Alone: a machine without any IPv4, loopback included. Everything listens at every
// address it has, agents find each other through control by IPv6, and go direct.
func TestIPv6Alone(t *testing.T) {
	if !alone(t) {
		return
	}
	here(t).ip("link set lo up", "addr del 127.0.0.1/8 dev lo")
	web, err := net.Listen("tcp", "[::1]:9000")
	if err != nil {
		t.Skip(err)
	}
	go http.Serve(web, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("by IPv6")) }))
	l := emptyLab(t)
	// The ports are this test's own, like the network.
	l.serve(l.start("up", "up", "--json", "--state", l.path("up"), "--listen", "[::]:8443", "--advertise", "https://[::1]:8443", "--stun", "[::]:3478"))
	l.agent("web", "--expose", "8080=[::1]:9000")
	l.agent("laptop", "--http-proxy", "[::1]:3128", "--dns", "[::1]:5353")
	l.connected(2)
	l.introduce("tcp/8080", "icmp")
	if code, body, err := fetch(through("http://[::1]:3128"), "http://web.enclave:8080/"); code != 200 || body != "by IPv6" {
		t.Errorf("fetch: %d %q %v", code, body, err)
	}
	out := l.ok("ping", "web", "--until-direct", "--count", "20", "--interval", "500ms", "--state", l.path("laptop"))
	if !strings.Contains(out, "direct via [::1]:") {
		t.Errorf("ping says %q", out)
	}
	out = l.ok("netcheck", "--state", l.path("laptop"))
	if !strings.Contains(out, "STUN [::1]:3478 in ") {
		t.Errorf("netcheck says %q", out)
	}
}
