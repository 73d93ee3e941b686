package passage

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Dial opens a connection; addr is host:port.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// Proxy returns the proxy for a URL, nil for none: what httpproxy.Config.ProxyFunc is.
type Proxy func(*url.URL) (*url.URL, error)

// ErrProxy wraps what a proxy answered instead of connecting.
var ErrProxy = errors.New("the proxy refuses")

const (
	maxHead   = 16 << 10         // of an HTTP request or answer
	connectIn = 10 * time.Second // to reach a proxy and have its answer
)

// Through dials by the proxy that proxy names for https://addr. Where it names none, or
// the one it names cannot be reached at all, it dials straight. A nil proxy names none.
func Through(dial Dial, proxy Proxy) Dial {
	if proxy == nil {
		return dial
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		u, err := proxy(&url.URL{Scheme: "https", Host: addr})
		if err != nil {
			return nil, fmt.Errorf("proxy of the environment: %w", err)
		}
		if u == nil || network != "tcp" {
			return dial(ctx, network, addr)
		}
		c, err := connect(ctx, dial, u, addr)
		if err == nil || errors.Is(err, ErrProxy) || ctx.Err() != nil {
			return c, err
		}
		straight, again := dial(ctx, network, addr)
		if again != nil {
			return nil, err // the proxy is what was asked for
		}
		return straight, nil
	}
}

// connect asks a proxy for a connection. User and password of its URL are sent as basic
// authentication and appear in no error.
func connect(ctx context.Context, dial Dial, proxy *url.URL, addr string) (net.Conn, error) {
	port, ok := map[string]string{"http": "80", "https": "443"}[proxy.Scheme]
	if !ok {
		return nil, fmt.Errorf("%w: %.20q is no kind of HTTP proxy", ErrProxy, proxy.Scheme)
	}
	if p := proxy.Port(); p != "" {
		port = p
	}
	ctx, cancel := context.WithTimeout(ctx, connectIn)
	defer cancel()
	c, err := dial(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", proxy.Host, err)
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	conn, err := ask(ctx, c, proxy, addr)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("proxy %s: %w", proxy.Host, err)
	}
	return &proxied{conn, proxy.Host}, nil
}

// proxied is a connection that a proxy has made.
type proxied struct {
	net.Conn
	by string // its host, and no more of its URL
}

// proxyOf is the host of the proxy that made c; empty: none did.
func proxyOf(c net.Conn) string {
	if p, ok := c.(*proxied); ok {
		return p.by
	}
	return ""
}

func ask(ctx context.Context, c net.Conn, proxy *url.URL, addr string) (net.Conn, error) {
	if proxy.Scheme == "https" {
		t := tls.Client(c, &tls.Config{ServerName: proxy.Hostname(), MinVersion: tls.VersionTLS12})
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		c = t
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := req.Write(c); err != nil {
		return nil, err
	}
	in := newInput(c)
	resp, err := http.ReadResponse(in.Reader, req)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusProxyAuthRequired:
		return nil, fmt.Errorf("%w: it asks for a user and a password (%s): put them into its URL, as HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT", ErrProxy, resp.Status)
	case resp.StatusCode/100 != 2:
		return nil, fmt.Errorf("%w: %.80q to %s", ErrProxy, resp.Status, addr)
	}
	return in.conn(c), nil
}

// input reads a head within its limit, and after it whatever comes.
type input struct {
	*bufio.Reader
	limit *io.LimitedReader
}

func newInput(c net.Conn) *input {
	l := &io.LimitedReader{R: c, N: maxHead}
	return &input{bufio.NewReader(l), l}
}

// conn returns c with what was read of it too early in front.
func (in *input) conn(c net.Conn) net.Conn {
	in.limit.N = math.MaxInt64
	if in.Buffered() == 0 {
		return c
	}
	return &early{c, in.Reader}
}

type early struct {
	net.Conn
	r *bufio.Reader
}

func (e *early) Read(b []byte) (int, error) { return e.r.Read(b) }
