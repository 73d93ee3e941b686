package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
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
	// Whose it is does not go to another host that is faster. Not every system has one.
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(bound.addr, bound.port))
	if other, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}, to); err == nil {
		other.Write(appendDatagram(nil, destination{name: "dns.enclave", port: 53}, []byte("first")))
		other.Close()
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

// scripted is a connection whose client has said everything at once.
type scripted struct {
	net.Conn
	says io.Reader
}

func (s *scripted) Read(b []byte) (int, error) { return s.says.Read(b) }

// TestWhoIsGreeted: nobody gets to a request without the method that is wanted, and its
// password.
func TestWhoIsGreeted(t *testing.T) {
	login := func(user, password string) string {
		return "\x01" + string(rune(len(user))) + user + string(rune(len(password))) + password
	}
	auth := &Auth{"alice", "secret"}
	for name, c := range map[string]struct {
		auth       *Auth
		says, want string
		ok         bool
	}{
		"no password needed":    {nil, "\x05\x01\x00", "\x05\x00", true},
		"one of several":        {nil, "\x05\x03\x01\x02\x00", "\x05\x00", true},
		"none of them":          {nil, "\x05\x02\x01\x02", "\x05\xff", false},
		"none at all":           {nil, "\x05\x00", "\x05\xff", false},
		"another version":       {nil, "\x04\x01\x00", "", false},
		"cut":                   {nil, "\x05\x02\x00", "", false},
		"nothing":               {nil, "", "", false},
		"a password":            {auth, "\x05\x02\x00\x02" + login("alice", "secret"), "\x05\x02\x01\x00", true},
		"not offered":           {auth, "\x05\x01\x00" + login("alice", "secret"), "\x05\xff", false},
		"a wrong password":      {auth, "\x05\x01\x02" + login("alice", "secreT"), "\x05\x02\x01\x01", false},
		"a longer password":     {auth, "\x05\x01\x02" + login("alice", "secret "), "\x05\x02\x01\x01", false},
		"another user":          {auth, "\x05\x01\x02" + login("bob", "secret"), "\x05\x02\x01\x01", false},
		"nobody":                {auth, "\x05\x01\x02" + login("", ""), "\x05\x02\x01\x01", false},
		"a version of password": {auth, "\x05\x01\x02\x02" + login("alice", "secret")[1:], "\x05\x02", false},
		"no version":            {auth, "\x05\x01\x02", "\x05\x02", false},
		"a password cut":        {auth, "\x05\x01\x02" + login("alice", "secret")[:9], "\x05\x02", false},
	} {
		near, far := net.Pipe()
		said := make(chan string)
		go func() { b, _ := io.ReadAll(near); said <- string(b) }()
		s := &socksRun{auth: c.auth}
		err := s.greet(&scripted{far, strings.NewReader(c.says)})
		far.Close()
		if got := <-said; got != c.want || (err == nil) != c.ok {
			t.Errorf("%s: answered %q, %v; want %q", name, got, err, c.want)
		}
	}
}

// TestWhatIsAskedFor is read in every form there is, and one target has one form.
func TestWhatIsAskedFor(t *testing.T) {
	name := func(s string) string { return "\x03" + string([]byte{byte(len(s))}) + s + "\x00\x50" }
	long := strings.Repeat("a", 63)
	for _, c := range []struct {
		in, want string
		err      error
	}{
		{"\x01\x64\x40\x00\x01\x00\x50", "100.64.0.1:80", nil},
		{"\x04\xfd" + strings.Repeat("\x00", 14) + "\x01\x00\x50", "[fd00::1]:80", nil},
		{"\x04" + strings.Repeat("\x00", 10) + "\xff\xff\x64\x40\x00\x01\x00\x50", "100.64.0.1:80", nil},
		{name("web.enclave"), "web.enclave:80", nil},
		{name("100.64.0.1"), "100.64.0.1:80", nil},
		{name("::ffff:100.64.0.1"), "100.64.0.1:80", nil},
		{name("fd00::1"), "[fd00::1]:80", nil},
		{name("_srv.A-1.web."), "_srv.A-1.web.:80", nil},
		{name(long + "." + long + "." + long + "." + long[:61]), long + "." + long + "." + long + "." + long[:61] + ":80", nil},
		{name(long + "." + long + "." + long + "." + long[:62]), "", errName},
		{name(long + "a"), "", errName},
		{name("fe80::1%eth0"), "", errName},
		{name(""), "", errName},
		{name("."), "", errName},
		{name("a..b"), "", errName},
		{name("a b"), "", errName},
		{name("a\x00b"), "", errName},
		{name("a/b"), "", errName},
		{name("a:b"), "", errName},
		{name("[a]"), "", errName},
		{name("a{"), "", errName},
		{"\x02\x64\x40\x00\x01\x00\x50", "", errAddress},
		{"", "", errShort}, {"\x01", "", errShort}, {"\x03", "", errShort}, {"\x03\x05ab", "", errShort}, {"\x01\x64\x40\x00\x01\x00", "", errShort},
	} {
		d, rest, err := parseDestination([]byte(c.in + strings.Repeat("x", len(c.want)%2)))
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || err == nil && (d.String() != c.want || len(rest) != len(c.want)%2) {
			t.Errorf("%q: %s, %q left, %v; want %s, %v", c.in, d, rest, err, c.want, c.err)
		}
		if c.err == errShort {
			continue
		}
		cmd, again, err := readRequest(strings.NewReader("\x05\x01\x00" + c.in))
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || err == nil && again != d || cmd != cmdConnect {
			t.Errorf("%q as a request: %d %s, %v", c.in, cmd, again, err)
		}
	}
	for _, in := range []string{"", "\x05\x01\x00\x01", "\x04\x01\x00\x01\x64\x40\x00\x01\x00\x50", "\x05\x01\x00\x01\x64\x40\x00\x01\x00"} {
		if _, d, err := readRequest(strings.NewReader(in)); err == nil {
			t.Errorf("%q asks for %s", in, d)
		}
	}
	for _, in := range []string{"", "\x00\x00", "\x00\x00\x01\x01\x64\x40\x00\x01\x00\x50"} {
		if d, _, err := parseDatagram([]byte(in)); err == nil {
			t.Errorf("a datagram %q is for %s", in, d)
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
