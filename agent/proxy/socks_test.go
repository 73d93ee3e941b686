package proxy

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func get(t *testing.T, proxy, target string) (string, int, error) {
	t.Helper()
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(u)}
	defer tr.CloseIdleConnections()
	c := http.Client{Transport: tr, Timeout: 10 * time.Second}
	resp, err := c.Get(target)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), resp.StatusCode, err
}

func TestSOCKSWithAStandardClient(t *testing.T) {
	noLeaks(t)
	names := book{"web.enclave:80": startWeb(t, hello)}
	open := startSOCKS(t, &SOCKS{Dialer: names})
	closed := startSOCKS(t, &SOCKS{Dialer: names, Auth: &Auth{"ada", "secret"}})
	for _, proxy := range []string{"socks5://" + open, "socks5h://" + open, "socks5h://ada:secret@" + closed} {
		if got, _, err := get(t, proxy, "http://web.enclave/"); got != "hello web.enclave" || err != nil {
			t.Errorf("%s: %q, %v", proxy, got, err)
		}
	}
	for _, proxy := range []string{"socks5h://" + closed, "socks5h://ada:wrong@" + closed, "socks5h://eve:secret@" + closed} {
		if got, _, err := get(t, proxy, "http://web.enclave/"); err == nil {
			t.Errorf("%s let in: %q", proxy, got)
		}
	}
}

// request opens a connection, greets without a password and sends a request.
func request(t *testing.T, addr string, cmd byte, to destination) *net.TCPConn {
	t.Helper()
	c := dial(t, addr)
	c.Write([]byte{5, 1, 0})
	var b [2]byte
	if _, err := io.ReadFull(c, b[:]); err != nil || b != [2]byte{5, 0} {
		t.Fatalf("greeting: %v, %v", b, err)
	}
	c.Write(appendDestination([]byte{5, cmd, 0}, to))
	return c
}

func readReply(t *testing.T, c net.Conn) (code byte, bound destination) {
	t.Helper()
	// A reply has the shape of a request.
	code, bound, err := readRequest(c)
	if err != nil {
		t.Fatal(err)
	}
	return code, bound
}

func TestSOCKSRepliesTellTheTruth(t *testing.T) {
	noLeaks(t)
	shut := listen(t)
	shut.Close()
	addr := startSOCKS(t, &SOCKS{
		Dialer: book{
			"secret.enclave:22": "denied", "laptop.enclave:22": "offline", "far.enclave:22": "silent",
			"web.enclave:81": shut.Addr().String(),
		},
		Limits: Limits{Dial: 20 * time.Millisecond},
	})
	for _, test := range []struct {
		cmd  byte
		to   destination
		want byte
	}{
		{cmdConnect, destination{name: "secret.enclave", port: 22}, 0x02},
		{cmdConnect, destination{name: "nobody.enclave", port: 22}, 0x04},
		{cmdConnect, destination{name: "laptop.enclave", port: 22}, 0x04},
		{cmdConnect, destination{name: "web.enclave", port: 81}, 0x05},
		{cmdConnect, destination{name: "far.enclave", port: 22}, 0x06},
		{cmdConnect, destination{name: "bad name", port: 22}, 0x04},
		{2, destination{name: "web.enclave", port: 80}, 0x07},
		{9, destination{name: "web.enclave", port: 80}, 0x07},
	} {
		c := request(t, addr, test.cmd, test.to)
		if code, _ := readReply(t, c); code != test.want {
			t.Errorf("command %d to %s: reply %d, want %d", test.cmd, test.to, code, test.want)
		}
		if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil {
			t.Errorf("command %d to %s: %q, %v after the reply", test.cmd, test.to, rest, err)
		}
	}
	c := dial(t, addr)
	c.Write([]byte{5, 1, 0, 5, 1, 0, 7, 0})
	if b, _ := io.ReadAll(c); len(b) < 4 || b[3] != replyBadAddress {
		t.Errorf("unknown address type: %v", b)
	}
}

func TestSOCKSResetPasses(t *testing.T) {
	noLeaks(t)
	target := listen(t)
	addr := startSOCKS(t, &SOCKS{Dialer: book{"web.enclave:80": target.Addr().String()}})
	c := request(t, addr, cmdConnect, destination{name: "web.enclave", port: 80})
	server := accepted(t, target)
	if code, bound := readReply(t, c); code != 0 || !bound.addr.IsLoopback() {
		t.Fatalf("reply %d, %s", code, bound)
	}
	abort(server)
	wantReset(t, c)
}

func TestUDPAssociate(t *testing.T) {
	noLeaks(t)
	echo := startEcho(t)
	addr := startSOCKS(t, &SOCKS{Dialer: book{"dns.enclave:53": echo, "100.64.0.7:53": echo, "no.enclave:53": "denied"}})
	c := request(t, addr, cmdAssociate, destination{})
	code, bound := readReply(t, c)
	if code != 0 || bound.port == 0 {
		t.Fatalf("reply %d, %s", code, bound)
	}
	u, err := net.Dial("udp", bound.String())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.SetDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 2000)
	exchange := func(name, text string) {
		t.Helper()
		to, _, err := parseDestination(append(append([]byte{addrName, byte(len(name))}, name...), 0, 53))
		if err != nil {
			t.Fatal(err)
		}
		u.Write(appendDatagram(nil, to, []byte(text)))
		n, err := u.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		from, data, err := parseDatagram(buf[:n])
		if err != nil || string(data) != text || from.String() != echo {
			t.Fatalf("%s: %q from %s, %v", name, data, from, err)
		}
	}
	exchange("dns.enclave", "by name")
	exchange("100.64.0.7", "by address")

	// None of these may end the association or be carried.
	u.Write([]byte{0, 0})
	u.Write(append([]byte{0, 0, 1}, appendDestination(nil, destination{name: "dns.enclave", port: 53})...))
	u.Write(appendDatagram(nil, destination{name: "no.enclave", port: 53}, nil))
	stranger, err := net.Dial("udp", bound.String())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	stranger.Write(appendDatagram(nil, destination{name: "dns.enclave", port: 53}, []byte("stolen")))
	exchange("dns.enclave", "still here")

	c.Close() // ends the association: its port is closed, which the kernel reports
	for {
		u.SetDeadline(time.Now().Add(10 * time.Millisecond))
		u.Write([]byte{0, 0})
		if _, err := u.Read(buf); err != nil && !isTimeout(err) {
			break
		}
	}
}

// pipeListener hands out ends of net.Pipe, which live in a bubble.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func TestSOCKSHandshakeTimesOut(t *testing.T) {
	for _, sent := range [][]byte{nil, {5}, {5, 2, 0}, {5, 1, 0, 5, 1}} {
		synctest.Test(t, func(t *testing.T) {
			l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- (&SOCKS{Dialer: book{}}).Run(ctx, l) }()
			near, far := net.Pipe()
			l.conns <- far
			go near.Write(sent)
			begin := time.Now()
			io.Copy(io.Discard, near)
			if took := time.Since(begin); took != 10*time.Second {
				t.Errorf("after %v: closed in %s", sent, took)
			}
			near.Close()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func FuzzSOCKSRequest(f *testing.F) {
	f.Add([]byte{5, 1, 0, 1, 100, 64, 0, 1, 0, 80})
	f.Add([]byte{5, 3, 0, 4, 0xfd, 0x7a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 53})
	f.Add(append([]byte{5, 1, 0, 3, 11}, "web.enclave\x00\x50"...))
	f.Add([]byte{5, 1, 0, 3, 0, 0, 80})
	f.Fuzz(func(t *testing.T, in []byte) {
		cmd, d, err := readRequest(bytes.NewReader(in))
		if err != nil {
			return
		}
		out := appendDestination([]byte{5, cmd, 0}, d)
		cmd2, again, err := readRequest(bytes.NewReader(out))
		if err != nil || cmd2 != cmd || again != d {
			t.Fatalf("%v became %v, %v", d, again, err)
		}
		if d.name != "" && strings.ContainsAny(d.String(), " \r\n/@") {
			t.Fatalf("%q is a name", d.name)
		}
	})
}

func FuzzSOCKSDatagram(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 100, 64, 0, 1, 0, 53, 'h', 'i'})
	f.Add(append([]byte{0, 0, 0, 3, 11}, "dns.enclave\x00\x35query"...))
	f.Add([]byte{0, 0, 1, 1, 100, 64, 0, 1, 0, 53})
	f.Fuzz(func(t *testing.T, in []byte) {
		d, data, err := parseDatagram(in)
		if err != nil {
			return
		}
		d2, data2, err := parseDatagram(appendDatagram(nil, d, data))
		if err != nil || d2 != d || !bytes.Equal(data, data2) {
			t.Fatalf("%v %q became %v %q, %v", d, data, d2, data2, err)
		}
	})
}
