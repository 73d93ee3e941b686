package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"syscall"
	"time"
)

// maxHeader bounds the header of a request, in bytes.
const maxHeader = 64 << 10

// maxIdle bounds the connections that are kept to targets for the next request.
const maxIdle = 64

// HTTP is an HTTP/1.1 proxy: CONNECT for anything, the absolute form for http URLs.
type HTTP struct {
	Dialer Dialer
	Auth   *Auth // nil lets everyone in who reaches the listener
	Limits Limits
	Log    *slog.Logger // nil discards
}

// Run serves until ctx ends, and closes l.
func (h *HTTP) Run(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run := &httpRun{ctx: ctx, dialer: h.Dialer, auth: h.Auth, limits: h.Limits.withDefaults(), log: logger(h.Log)}
	quiet := slog.NewLogLogger(run.log.Handler(), slog.LevelDebug)
	transport := &http.Transport{
		DialContext:        run.dialWhole,
		DisableCompression: true, // a body that nobody asked to decode must not change
		MaxIdleConns:       maxIdle,
		IdleConnTimeout:    run.limits.Idle,
	}
	run.forward = &httputil.ReverseProxy{
		Rewrite:       asAsked,
		Transport:     transport,
		ErrorHandler:  func(w http.ResponseWriter, r *http.Request, err error) { run.explain(w, r.URL.Host, err) },
		ErrorLog:      quiet,
		BufferPool:    httpBuffers{},
		FlushInterval: -1, // events must reach the client as they come
	}
	server := &http.Server{
		Handler:           run,
		ReadHeaderTimeout: run.limits.Handshake,
		IdleTimeout:       run.limits.Idle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          quiet,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, clientKey{}, c) },
	}

	// http.Server does not wait for its connections, so serve counts them and lends
	// each to the server until it is closed.
	lent := &lender{Listener: l, conns: make(chan net.Conn), done: ctx.Done()}
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(lent) })
	err := serve(ctx, l, run.limits.Conns, run.log, lent.lend)
	cancel()
	server.Close()
	wg.Wait()
	run.handlers.Wait()
	transport.CloseIdleConnections()
	return err
}

// asAsked undoes what ReverseProxy does to every request: it drops queries that it
// cannot parse and the headers of proxies before it, which are the client's to send.
// The target needs no rewriting, since the absolute form names it.
func asAsked(r *httputil.ProxyRequest) {
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := r.In.Header[name]; ok {
			r.Out.Header[name] = v
		}
	}
}

// httpRun is an HTTP with its defaults filled in, for one Run.
type httpRun struct {
	ctx      context.Context // ends with Run
	dialer   Dialer
	auth     *Auth
	limits   Limits
	log      *slog.Logger
	forward  http.Handler
	handlers sync.WaitGroup
}

// clientKey finds the client's connection in the context of its requests.
type clientKey struct{}

func (h *httpRun) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.handlers.Add(1)
	defer h.handlers.Done()
	switch {
	case !h.admits(r):
		w.Header().Set("Proxy-Authenticate", `Basic realm="enclave"`)
		http.Error(w, "this proxy wants a user name and password", http.StatusProxyAuthRequired)
	case r.Method == http.MethodConnect:
		h.connect(w, r)
	case r.URL.Host == "":
		http.Error(w, "this is a proxy and no web server; set it as the HTTP proxy of your client", http.StatusBadRequest)
	case r.URL.Scheme != "http":
		http.Error(w, fmt.Sprintf("this proxy fetches http URLs; for %.20q use CONNECT", r.URL.Scheme), http.StatusNotImplemented)
	default:
		defer h.resetTruncated(r)
		h.forward.ServeHTTP(w, r)
	}
}

// resetTruncated resets the client when the target broke off in the middle of a body,
// which ReverseProxy reports by this panic. To a client of HTTP/1.0 a plain close
// would be the regular end of the body.
func (h *httpRun) resetTruncated(r *http.Request) {
	if p := recover(); p != nil {
		if c, ok := r.Context().Value(clientKey{}).(net.Conn); ok {
			abort(c)
		}
		panic(p)
	}
}

func (h *httpRun) admits(r *http.Request) bool {
	if h.auth == nil {
		return true
	}
	// The two headers differ in their name only (RFC 9110 section 11.7.1).
	as := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	user, password, ok := as.BasicAuth()
	return ok && h.auth.matches(user, password)
}

// dial bounds a dial by Run: the transport lets one go on when its request has ended.
func (h *httpRun) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, h.limits.Dial)
	defer cancel()
	stop := context.AfterFunc(h.ctx, cancel)
	defer stop()
	return h.dialer.DialContext(ctx, network, addr)
}

// dialWhole is dial for the transport, which takes the end of a connection for the end
// of a body without a length.
func (h *httpRun) dialWhole(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := h.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &whole{Conn: c}, nil
}

// whole is a connection whose data never seems to have ended when it was reset.
type whole struct{ net.Conn }

func (c *whole) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.EOF) && lost(c.Conn) {
		err = syscall.ECONNRESET
	}
	return n, err
}

func (h *httpRun) connect(w http.ResponseWriter, r *http.Request) {
	addr, err := parseTarget(r.Host)
	if err != nil {
		http.Error(w, "CONNECT: "+err.Error(), http.StatusBadRequest)
		return
	}
	target, err := h.dial(r.Context(), "tcp", addr)
	if err != nil {
		h.explain(w, addr, err)
		return
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		abort(target)
		http.Error(w, "CONNECT needs HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	client.SetDeadline(time.Now().Add(h.limits.Handshake))
	_, err = client.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n"))
	if err == nil {
		err = passBuffered(target, buffered.Reader)
	}
	if err != nil {
		abort(target)
		abort(client)
		return
	}
	client.SetDeadline(time.Time{})
	splice(h.ctx, client, target)
}

// passBuffered sends on what a client wrote before it was told that it may.
func passBuffered(target net.Conn, r *bufio.Reader) error {
	early, _ := r.Peek(r.Buffered())
	if len(early) == 0 {
		return nil
	}
	_, err := target.Write(early)
	return err
}

// explain answers a request whose target was not reached: what, why and what next.
func (h *httpRun) explain(w http.ResponseWriter, target string, err error) {
	why := reasonOf(err)
	h.log.Info("http: not connected", "target", target, "reason", why.String(), "err", err)
	row := reasonTable[why]
	http.Error(w, fmt.Sprintf("cannot reach %s\nwhy:  %s\nnext: %s", target, err, row.next), row.status)
}

type httpBuffers struct{}

func (httpBuffers) Get() []byte  { return buffers.Get().(*[spliceBuffer]byte)[:] }
func (httpBuffers) Put(b []byte) { buffers.Put((*[spliceBuffer]byte)(b)) }
