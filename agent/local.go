package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// ErrNoAgent is returned when no agent answers on the socket of a state directory.
var ErrNoAgent = errors.New("no agent runs on this state directory")

// SocketName is the local API's socket in the state directory. Its mode, 0600, is
// who may use it: a browser cannot reach it, nor can another user.
const SocketName = "agent.sock"

// maxSocketPath is what fits into a sockaddr_un on Linux with its final zero; other
// systems have a few bytes less, and say so themselves.
const maxSocketPath = 107

// ErrLongPath is returned for a state directory whose socket no program could dial.
var ErrLongPath = errors.New("the state directory's path is too long for a local socket")

// CheckLocal reports whether dir can hold the local API's socket.
func CheckLocal(dir string) error {
	if path := filepath.Join(dir, SocketName); len(path) > maxSocketPath {
		return fmt.Errorf("%w: %s has %d bytes, at most %d fit", ErrLongPath, path, len(path), maxSocketPath)
	}
	return nil
}

// ServeLocal answers status, ping and waitfor on the socket in dir until ctx ends.
func (a *Agent) ServeLocal(ctx context.Context, dir string) error {
	path := filepath.Join(dir, SocketName)
	if err := CheckLocal(dir); err != nil {
		return err
	}
	// The directory is locked by this process, so a socket that is there is a dead one's.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("local socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("local socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return fmt.Errorf("local socket: %w", err)
	}
	srv := &http.Server{Handler: a.localAPI(), ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		// What is asked ends with ctx, so this takes no longer than writing the answers;
		// it also removes the socket.
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		stop()
		srv.Close()
		return fmt.Errorf("local socket: %w", err)
	}
	<-ended
	return nil
}

// maxWait bounds waitfor, so that a caller who is gone without a word leaves nothing.
const maxWait = time.Hour

func (a *Agent) localAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, a.Status(), nil)
	})
	mux.HandleFunc("GET /trust", func(w http.ResponseWriter, _ *http.Request) {
		if a.parts.Load() == nil { // the roots come with the enrolment, which is over then
			answer(w, nil, ErrNotReady)
			return
		}
		answer(w, api.AgentTrust{Org: a.st.Org, Roots: a.st.Roots}, nil)
	})
	mux.HandleFunc("POST /witness/forget", func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, a.ForgetWitness(r.Context()))
	})
	mux.HandleFunc("POST /ping", func(w http.ResponseWriter, r *http.Request) {
		ping := a.Ping
		if r.URL.Query().Get("icmp") == "1" {
			ping = a.PingThrough
		}
		res, err := ping(r.Context(), r.URL.Query().Get("name"))
		answer(w, res, err)
	})
	mux.HandleFunc("POST /resolve", func(w http.ResponseWriter, r *http.Request) {
		res, err := a.Resolve(r.Context(), r.URL.Query().Get("name"), r.URL.Query().Get("type"))
		answer(w, res, err)
	})
	mux.HandleFunc("POST /waitfor", func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.URL.Query().Get("timeout"))
		if err != nil || d <= 0 || d > maxWait {
			answer(w, nil, &api.Problem{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Title: "bad request",
				Detail: fmt.Sprintf("timeout %.40q: want a duration of at most %s", r.URL.Query().Get("timeout"), maxWait)})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), d)
		defer cancel()
		res, err := a.WaitFor(ctx, r.URL.Query().Get("name"))
		answer(w, res, err)
	})
	return mux
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		p := problemOf(err)
		w.WriteHeader(p.Status)
		v = p
	}
	_ = json.NewEncoder(w).Encode(v) // the caller is gone if this fails
}

func problemOf(err error) *api.Problem {
	p := new(api.Problem)
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, ErrUnknownName):
		return &api.Problem{Status: http.StatusNotFound, Code: "unknown_name", Title: "unknown name", Detail: err.Error(),
			Hint: "no policy connects this system to that name or address; see \"enclave policy list\""}
	}
	return &api.Problem{Status: http.StatusServiceUnavailable, Code: api.CodeTryAgain, Title: "not now", Detail: err.Error()}
}

// Local calls the agent that runs on a state directory.
type Local struct{ http http.Client }

// NewLocal returns a caller for the agent on dir; it dials nothing yet.
func NewLocal(dir string) *Local {
	path := filepath.Join(dir, SocketName)
	return &Local{http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, // a call now and then; nothing is left behind to close
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}}
}

// ForgetWitness drops the checkpoint that the agent remembers: the next one that control
// sends is believed. It is for after a rollback that was meant.
func (a *Agent) ForgetWitness(ctx context.Context) error { return a.tell(ctx, word{forget: true}) }

// ForgetWitness does the same to the agent that runs on the state directory.
func (l *Local) ForgetWitness(ctx context.Context) error {
	var none struct{}
	return l.call(ctx, http.MethodPost, "/witness/forget", &none)
}

// Status returns the agent's status.
func (l *Local) Status(ctx context.Context) (s api.AgentStatus, err error) {
	return s, l.call(ctx, http.MethodGet, "/status", &s)
}

// Trust returns what the agent tells relays and peers from impostors by.
func (l *Local) Trust(ctx context.Context) (t svid.Trust, err error) {
	var in api.AgentTrust
	if err := l.call(ctx, http.MethodGet, "/trust", &in); err != nil {
		return t, err
	}
	t.Org = in.Org
	t.Roots, err = svid.Pool(in.Roots)
	return t, err
}

// Ping probes a peer.
func (l *Local) Ping(ctx context.Context, name string) (r api.PingResult, err error) {
	return r, l.call(ctx, http.MethodPost, "/ping?name="+url.QueryEscape(name), &r)
}

// PingThrough probes a peer and then sends it an ICMP echo through the overlay.
func (l *Local) PingThrough(ctx context.Context, name string) (r api.PingResult, err error) {
	return r, l.call(ctx, http.MethodPost, "/ping?icmp=1&name="+url.QueryEscape(name), &r)
}

// Resolve asks what a name stands for, for this system; type is A or AAAA.
func (l *Local) Resolve(ctx context.Context, name, kind string) (r api.Resolution, err error) {
	return r, l.call(ctx, http.MethodPost, "/resolve?name="+url.QueryEscape(name)+"&type="+url.QueryEscape(kind), &r)
}

// WaitFor waits until a peer answers, at most timeout.
func (l *Local) WaitFor(ctx context.Context, name string, timeout time.Duration) (r api.PingResult, err error) {
	return r, l.call(ctx, http.MethodPost, "/waitfor?name="+url.QueryEscape(name)+"&timeout="+timeout.String(), &r)
}

func (l *Local) call(ctx context.Context, method, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, nil)
	if err != nil {
		return err
	}
	resp, err := l.http.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return fmt.Errorf("%w (%w)", ErrNoAgent, op.Err)
		}
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, wire.MaxMapMessage)) // a status is of the map's size
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		p := new(api.Problem)
		if err := json.NewDecoder(bytes.NewReader(raw)).Decode(p); err != nil {
			return fmt.Errorf("the agent answered %s", resp.Status)
		}
		return p
	}
	return json.Unmarshal(raw, out)
}
