package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestNetcheckWithoutAnAgent: a machine that is not enrolled, on networks made by the
// kernel's packet filter, is told what each lets through.
func TestNetcheckWithoutAnAgent(t *testing.T) {
	if !alone(t) {
		return
	}
	internet := publicSide(t)
	h := newHome(t, internet, 0, easyNAT)
	l := emptyLab(t)
	l.startOnInternet()

	proxy, err := net.Listen("tcp", "203.0.113.2:3128")
	if err != nil {
		t.Fatal(err)
	}
	go each(proxy, connectProxy)
	var portal net.Listener
	if err := h.router.do(func() (err error) { portal, err = net.Listen("tcp", "192.168.0.1:8080"); return err }); err != nil {
		t.Fatal(err)
	}
	go http.Serve(portal, http.RedirectHandler("http://login.hotel.example/", http.StatusFound))
	t.Cleanup(func() { proxy.Close(); portal.Close() })

	const onlyProxy = "table ip only { chain f { type filter hook forward priority 0; policy drop; ct state established accept; ip daddr 203.0.113.2 tcp dport 3128 accept; }\n}\n"
	for _, tt := range []struct {
		name, rules, env string
		exit             int
		says             []string
	}{
		{"home", easyNAT, "", 0, []string{"ok       NAT mapping     endpoint-independent\n", "TLS to 203.0.113.1:8443", "falls back to relay control with "}},
		{"symmetric", symmetricNAT, "", 0, []string{"warn     NAT mapping     address-and-port-dependent\n", "falls back to relay control with "}},
		{"UDP blocked", easyNAT + noUDP, "", 0, []string{"fail     UDP             none of 3 STUN servers answers\n", "No direct paths by UDP: it is blocked. Systems that take peers by TCP (agent --listen-tcp) are reached directly; everything else goes over relay control with "}},
		{"proxy only", easyNAT + onlyProxy, "HTTPS_PROXY=http://203.0.113.2:3128", 0,
			[]string{"ok       HTTP proxy      http://203.0.113.2:3128 connects to a relay\n", "Everything goes through the HTTP proxy to relay control."}},
		{"captive portal", easyNAT + noUDP + "table ip portal { chain p { type nat hook prerouting priority -100; iifname \"lan\" tcp dport { 80, 8443 } redirect to :8080; }\n}\n", "", 6,
			[]string{"fail     captive portal  sends to login.hotel.example\n", "a captive portal answers in the place of the relays"}},
		{"nothing", easyNAT + strings.Replace(onlyProxy, "3128", "1", 1), "", 6, []string{"no relay answers by UDP or by TCP"}},
	} {
		h.router.nft(tt.rules)
		var out []byte
		var exit int
		err := h.host.do(func() error {
			cmd := exec.Command(l.bin, "netcheck", "--state", l.path("none"), "--control", l.up.URL, "--ca-fingerprint", l.up.Fingerprint,
				"--stun", "203.0.113.1:3478", "--stun", "203.0.113.1:3479", "--stun", "203.0.113.2:3478")
			cmd.Env = append(os.Environ(), tt.env)
			out, _ = cmd.CombinedOutput() // the exit code says it
			exit = cmd.ProcessState.ExitCode()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range tt.says {
			if !strings.Contains(string(out), want) || exit != tt.exit {
				t.Errorf("%s: exit %d, want %d and %q:\n%s", tt.name, exit, tt.exit, want, out)
			}
		}
	}
}

// connectProxy is a connection to an HTTP proxy that connects, and does nothing else.
func connectProxy(c net.Conn) {
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil || req.Method != http.MethodConnect {
		return
	}
	to, err := net.Dial("tcp", req.Host)
	if err != nil {
		fmt.Fprint(c, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer to.Close()
	fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { io.Copy(to, r); to.Close() }()
	io.Copy(c, to)
}
