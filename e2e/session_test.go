package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestOperatorsSession is the session of the README: two agents, a policy, a service
// reached by name through both proxies and a forward, everything killed and back.
func TestOperatorsSession(t *testing.T) {
	l := newLab(t)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello over the overlay") }))
	defer service.Close()
	echo := echoServer(t)

	l.agent("web", "--expose", "8080="+service.Listener.Addr().String(), "--expose", "7="+echo)
	socks, httpProxy, forward := freePort(t), freePort(t), freePort(t)
	laptop := []string{"--socks", socks, "--http-proxy", httpProxy, "--forward", forward + "=web.enclave:7"}
	laptopProcess := l.agent("laptop", laptop...)

	l.connected(2)
	if _, _, err := fetch(through("socks5h://"+socks), "http://web.enclave:8080/"); err == nil {
		t.Fatal("the service was reached without a policy")
	}
	l.ok("tag", "add", "web", "servers")
	l.ok("tag", "add", "laptop", "laptops")
	l.ok("policy", "create", "Web for laptops", "--from", "laptops", "--to", "servers", "--allow", "tcp/8080", "--allow", "tcp/7", "--wait")
	l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1m")

	for _, proxy := range []string{"socks5h://" + socks, "http://" + httpProxy} {
		status, body, err := fetch(through(proxy), "http://web.enclave:8080/")
		if err != nil || status != 200 || body != "hello over the overlay" {
			t.Errorf("through %s: %d %q %v", proxy, status, body, err)
		}
	}
	talk(t, forward)

	out := l.ok("ping", "web", "--state", l.path("laptop"), "--count", "1")
	if !strings.Contains(out, "web (") {
		t.Errorf("ping prints %q", out)
	}
	var status struct {
		State string
		Peers []struct{ Name, Route string }
	}
	l.decode(&status, "agent", "status", "--state", l.path("laptop"))
	if status.State != "running" || len(status.Peers) != 1 || status.Peers[0].Name != "web" || status.Peers[0].Route == "none" {
		t.Errorf("agent status: %+v", status)
	}

	// Everything is killed, and comes back from its state.
	laptopProcess.kill()
	l.agent("laptop", laptop...)
	l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1m")
	if _, body, err := fetch(through("socks5h://"+socks), "http://web.enclave:8080/"); err != nil || body != "hello over the overlay" {
		t.Errorf("after kill -9 of the laptop: %q %v", body, err)
	}

	l.ok("policy", "disable", "Web for laptops", "--wait")
	if _, _, err := fetch(through("socks5h://"+socks), "http://web.enclave:8080/"); err == nil {
		t.Error("the service is reached though the policy is disabled")
	}
}

// TestServiceComesBack: the clients of an agent that was killed and started again
// reach it well before WireGuard on their side would have noticed by itself.
func TestServiceComesBack(t *testing.T) {
	l := newLab(t)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "here") }))
	defer service.Close()
	expose, socks := "8080="+service.Listener.Addr().String(), freePort(t)
	web := l.agent("web", "--expose", expose)
	l.agent("laptop", "--socks", socks)
	until(t, 20*time.Second, "both systems enrol", func() bool {
		var systems []listed
		l.decode(&systems, "system", "list")
		return len(systems) == 2
	})
	l.introduce("tcp/8080")
	quick := through("socks5h://" + socks)
	quick.Timeout = 2 * time.Second
	reached := func() bool {
		_, body, err := fetch(quick, "http://web.enclave:8080/")
		return err == nil && body == "here"
	}
	until(t, 20*time.Second, "the service is reached", reached)
	web.kill()
	l.agent("web", "--expose", expose)
	until(t, 12*time.Second, "the service is reached again", reached)
}

// TestControlIsKilled: kill -9 of control and relay loses nothing that was
// acknowledged, and existing pairs go on meanwhile.
func TestControlIsKilled(t *testing.T) {
	l := newLab(t)
	first := l.up
	reach := l.pair()

	l.upProcess.kill()
	if err := reach(); err != nil {
		t.Errorf("while control is down: %v", err)
	}
	u, _ := url.Parse(first.URL)
	l.startUp(u.Host)
	if l.up.EnrolmentKey != "" || l.up.Fingerprint != first.Fingerprint {
		t.Errorf("after the restart: %+v, was %+v", l.up, first)
	}
	var policies []struct{ Name, State string }
	l.decode(&policies, "policy", "list")
	if len(policies) != 1 || policies[0].State != "active" {
		t.Errorf("policies after kill -9: %+v", policies)
	}
	l.connected(2)
	l.ok("policy", "disable", "p", "--wait")
	if reach() == nil {
		t.Error("the service is reached though the policy is disabled")
	}
}
