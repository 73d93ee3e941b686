package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestNamesForRealClients: dig, getent and curl ask the stub resolver. They do so on a
// network of this test's own, where port 53 is free, with the resolver's configuration
// that a user would write; a client that is not installed is left out.
func TestNamesForRealClients(t *testing.T) {
	if !alone(t) {
		return
	}
	// The address makes getent ask for IPv4 at all: it does not where loopback is all there is.
	here(t).ip("link set lo up", "addr add 192.0.2.1/32 dev lo")
	l := newLab(t)
	socks := freePort(t)
	l.agent("web", "--expose", "8080="+greeter(t, "hello"))
	l.agent("laptop", "--socks", socks, "--dns", "127.0.0.1:53")
	l.agent("stranger", "--dns", "127.0.0.2:53")
	l.connected(3)
	l.ok("tag", "add", "web", "servers")
	l.ok("tag", "add", "laptop", "laptops")
	l.ok("tag", "add", "stranger", "strangers")
	l.ok("policy", "create", "p", "--from", "laptops", "--to", "servers", "--allow", "tcp/8080", "--wait")
	l.ok("dns", "zone", "create", "corp.test", "--auto-tag", "servers", "--wait")
	l.ok("dns", "record", "create", "*.apps.corp.test", "--tag", "servers", "--wait")
	l.refused(2, "invalid", "dns", "record", "create", "x.corp.test", "--tag", "nosuch")
	l.refused(2, "invalid", "dns", "zone", "create", "apps.corp.test")

	var r struct {
		Kind      string
		Addresses []string
	}
	l.decode(&r, "resolve", "web.corp.test", "--as", "laptop")
	if r.Kind != "found" || len(r.Addresses) != 1 {
		t.Fatalf("control says %+v", r)
	}
	addr := r.Addresses[0]
	asked := func(server, name string) string { // the status and the addresses
		out, _ := exec.Command("dig", "+tries=1", "+time=30", "+noall", "+comments", "+answer", "@"+server, name).Output()
		status := ""
		for line := range strings.Lines(string(out)) {
			if _, rest, ok := strings.Cut(line, "status: "); ok {
				status, _, _ = strings.Cut(rest, ",")
			} else if f := strings.Fields(line); len(f) == 5 && f[3] == "A" {
				status += " " + f[4] + " " + f[1]
			}
		}
		return status
	}
	if _, err := exec.LookPath("dig"); err == nil {
		for _, c := range []struct{ server, name, want string }{
			{"127.0.0.1", "web.enclave", "NOERROR " + addr + " 0"}, {"127.0.0.1", "web.corp.test", "NOERROR " + addr + " 0"},
			{"127.0.0.1", "a.b.apps.corp.test", "NOERROR " + addr + " 0"}, {"127.0.0.1", "corp.test", "NOERROR"},
			{"127.0.0.1", "stranger.enclave", "NXDOMAIN"}, {"127.0.0.1", "example.com", "SERVFAIL"},
			{"127.0.0.2", "web.enclave", "NXDOMAIN"}, {"127.0.0.2", "web.corp.test", "NXDOMAIN"}, {"127.0.0.2", "x.apps.corp.test", "NXDOMAIN"},
		} {
			if got := asked(c.server, c.name); got != c.want {
				t.Errorf("dig @%s %s: %q, want %q", c.server, c.name, got, c.want)
			}
		}
	} else {
		t.Log("dig is not installed: left out")
	}

	// getent reads the configuration, which is this mount namespace's alone.
	conf := l.path("resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 127.0.0.1\noptions attempts:1 timeout:30\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	getent := func(name string) (string, error) {
		out, err := exec.Command("unshare", "-m", "sh", "-c", "mount --bind "+conf+" /etc/resolv.conf && exec getent ahostsv4 "+name).CombinedOutput()
		return string(out), err
	}
	if out, err := exec.Command("unshare", "-m", "mount", "--bind", conf, "/etc/resolv.conf").CombinedOutput(); err != nil {
		t.Logf("getent is left out: no mount over /etc/resolv.conf: %v: %s", err, out)
	} else if out, err := getent("x.apps.corp.test"); err != nil || !strings.HasPrefix(out, addr) {
		t.Errorf("getent: %v, %s", err, out)
	} else if out, err := getent("stranger.enclave"); err == nil {
		t.Errorf("getent finds the stranger: %s", out)
	}

	if !reaches(socks, "http://x.apps.corp.test:8080/", "hello") {
		t.Error("a record's name is not reached through the proxy")
	}
	if out, err := exec.Command("curl", "-sS", "--max-time", "60", "--socks5-hostname", socks, "http://web.corp.test:8080/").CombinedOutput(); err != nil && len(out) > 0 || err == nil && strings.TrimSpace(string(out)) != "hello" {
		t.Errorf("curl: %v, %s", err, out)
	}

	l.decode(&r, "resolve", "web.enclave", "--state", l.path("laptop"))
	if r.Kind != "found" {
		t.Errorf("the agent says %+v", r)
	}
	l.ok("policy", "disable", "p", "--wait")
	l.decode(&r, "resolve", "web.enclave", "--state", l.path("laptop"))
	if r.Kind != "missing" {
		t.Errorf("after the policy's end the agent says %+v", r)
	}

	// The end of a policy takes its names along with control gone.
	l.ok("policy", "enable", "p", "--wait")
	ends := l.expires("p", 6*time.Second, time.RFC3339)
	l.upProcess.kill()
	l.decode(&r, "resolve", "web.corp.test", "--state", l.path("laptop"))
	if r.Kind != "found" && time.Now().Before(ends.Truncate(time.Second)) {
		t.Errorf("before the end the agent says %+v", r)
	}
	until(t, 15*time.Second, "the name disappears with control gone", func() bool {
		l.decode(&r, "resolve", "web.corp.test", "--state", l.path("laptop"))
		return r.Kind == "missing"
	})
	if late := time.Since(ends); late > 2*time.Second {
		t.Logf("it disappeared %s after the end", late)
	}
}
