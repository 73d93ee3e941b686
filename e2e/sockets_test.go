package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"enclave/e2e/freeport"
)

// freePort is an address for a process that the test starts.
func freePort(t *testing.T) string {
	t.Helper()
	return freeport.Loopback(t).String()
}

func through(proxy string) *http.Client {
	u, _ := url.Parse(proxy)
	return &http.Client{Timeout: patience, Transport: &http.Transport{Proxy: http.ProxyURL(u), DisableKeepAlives: true}}
}

func fetch(c *http.Client, url string) (int, string, error) {
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// serving listens on loopback and serves each connection, until the test ends.
func serving(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go each(l, serve)
	return l.Addr().String()
}

// each serves every connection by itself, until the listener is closed.
func each(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			serve(c)
		}()
	}
}

func echoServer(t *testing.T) string {
	t.Helper()
	return serving(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
}

// talk sends a line to an echo and wants it back, with both directions closed in
// order.
func talk(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c, "there and back")
	_ = c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "there and back" {
		t.Errorf("through the forward: %q, %v", got, err)
	}
}
