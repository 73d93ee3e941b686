package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestHTTPAbsoluteForm(t *testing.T) {
	noLeaks(t)
	web := startWeb(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %v", r.Host, r.URL, r.Header["Proxy-Authorization"])
	})
	names := book{"web.enclave:80": web, "web.enclave:8080": web}
	open := startHTTP(t, &HTTP{Dialer: names})
	closed := startHTTP(t, &HTTP{Dialer: names, Auth: &Auth{"ada", "secret"}})
	for _, proxy := range []string{"http://" + open, "http://ada:secret@" + closed} {
		// The password is for the proxy and must not go further.
		if got, _, err := get(t, proxy, "http://web.enclave:8080/x?q=1;2"); got != "web.enclave:8080 /x?q=1;2 []" || err != nil {
			t.Errorf("%s: %q, %v", proxy, got, err)
		}
	}
	for _, proxy := range []string{"http://" + closed, "http://ada:wrong@" + closed} {
		if _, status, err := get(t, proxy, "http://web.enclave/"); status != http.StatusProxyAuthRequired {
			t.Errorf("%s: %d, %v", proxy, status, err)
		}
	}
}

func TestHTTPErrorsExplain(t *testing.T) {
	noLeaks(t)
	shut := listen(t)
	shut.Close()
	proxy := startHTTP(t, &HTTP{
		Dialer: book{"secret.enclave:80": "denied", "laptop.enclave:80": "offline", "far.enclave:80": "silent", "web.enclave:80": shut.Addr().String()},
		Limits: Limits{Dial: 20 * time.Millisecond},
	})
	for _, test := range []struct {
		host   string
		status int
		why    string
	}{
		{"secret.enclave", 403, "denied by policy: no rule of any policy covers tcp/22"},
		{"laptop.enclave", 502, "system offline"},
		{"nobody.enclave", 502, "unknown name"},
		{"100.64.0.9", 502, "no system that policy connects to this one has the address 100.64.0.9"},
		{"[fd00::9]", 502, "has the address fd00::9, and no gateway leads there"},
		{"web.enclave", 502, "connection refused"},
		{"far.enclave", 504, "deadline exceeded"},
	} {
		for _, ask := range []string{"GET http://%s/ HTTP/1.1\r\nHost: %[1]s\r\n\r\n", "CONNECT %s:80 HTTP/1.1\r\nHost: %[1]s:80\r\n\r\n"} {
			c := dial(t, proxy)
			fmt.Fprintf(c, ask, test.host)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			for _, want := range []string{"cannot reach " + test.host, "why: ", test.why, "next: "} {
				if resp.StatusCode != test.status || !strings.Contains(string(body), want) {
					t.Errorf("%s: %d, the body lacks %q:\n%s", test.host, resp.StatusCode, want, body)
				}
			}
			c.Close()
		}
	}
}

// TestAResetIsExplained: the agent over there took the flow and found no service behind it.
func TestAResetIsExplained(t *testing.T) {
	noLeaks(t)
	service := listen(t)
	proxy := startHTTP(t, &HTTP{Dialer: book{"web.enclave:80": service.Addr().String()}})
	c := dial(t, proxy)
	defer c.Close()
	fmt.Fprint(c, "GET http://web.enclave/ HTTP/1.1\r\nHost: web.enclave\r\n\r\n")
	s, err := service.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); err != nil { // a reset before it would be one of the dial
		t.Fatal(err)
	}
	abort(s)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 502 || !strings.Contains(string(body), "--expose") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// A web page can make a browser send such requests to a port of this machine.
func TestHTTPIsNoWebServer(t *testing.T) {
	noLeaks(t)
	proxy := startHTTP(t, &HTTP{Dialer: book{}})
	for _, test := range []struct {
		ask    string
		status int
	}{
		{"GET / HTTP/1.1\r\nHost: web.enclave\r\n\r\n", 400},
		{"GET https://web.enclave/ HTTP/1.1\r\nHost: web.enclave\r\n\r\n", 501},
		{"CONNECT web.enclave HTTP/1.1\r\nHost: web.enclave\r\n\r\n", 400},
		{"CONNECT web.enclave:0 HTTP/1.1\r\nHost: web.enclave\r\n\r\n", 400},
		{"GET http://x/ HTTP/1.1\r\nA: " + strings.Repeat("a", 2*maxHeader) + "\r\n\r\n", 431},
	} {
		c := dial(t, proxy)
		io.WriteString(c, test.ask)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != test.status {
			t.Errorf("%.40q: %v, %v; want %d", test.ask, resp, err, test.status)
		}
	}
}

func TestConnectPassesEarlyDataAndResets(t *testing.T) {
	noLeaks(t)
	target := listen(t)
	proxy := startHTTP(t, &HTTP{Dialer: book{"db.enclave:5432": target.Addr().String()}})
	c := dial(t, proxy)
	io.WriteString(c, "CONNECT db.enclave:5432 HTTP/1.1\r\nHost: db.enclave:5432\r\n\r\nearly")
	server := accepted(t, target)
	buf := make([]byte, 5)
	if _, err := io.ReadFull(server, buf); err != nil || string(buf) != "early" {
		t.Fatalf("%q, %v", buf, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "CONNECT"})
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	abort(server)
	wantReset(t, c)
}

// An HTTP/1.0 client takes the end of the connection for the end of the body.
func TestTruncatedBodyIsReset(t *testing.T) {
	noLeaks(t)
	target := listen(t)
	proxy := startHTTP(t, &HTTP{Dialer: book{"web.enclave:80": target.Addr().String()}})
	c := dial(t, proxy)
	io.WriteString(c, "GET http://web.enclave/ HTTP/1.0\r\n\r\n")
	server := accepted(t, target)
	http.ReadRequest(bufio.NewReader(server))
	io.WriteString(server, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
	r := bufio.NewReader(c)
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	io.ReadFull(r, make([]byte, 4))
	abort(server)
	wantReset(t, c)
}

func TestHTTPThroughConnect(t *testing.T) {
	noLeaks(t)
	// net/http asks by CONNECT for https; the TLS error shows that the bytes arrived.
	proxy := startHTTP(t, &HTTP{Dialer: book{"web.enclave:443": startWeb(t, hello)}})
	_, _, err := get(t, "http://"+proxy, "https://web.enclave/")
	if err == nil || !strings.Contains(err.Error(), "HTTP response to HTTPS client") {
		t.Fatal(err)
	}
}
