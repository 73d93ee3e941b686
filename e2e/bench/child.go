package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
)

// host is where a node lives: this process or another.
type host interface {
	// do does a job and returns its figures; start returns what others need to know.
	do(ctx context.Context, j *job) (*answer, error)
	close() error
}

// answer is what a job came to.
type answer struct {
	Values  []float64 `json:"values,omitempty"`
	Started *started  `json:"started,omitempty"`
	Addr    string    `json:"addr,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// The jobs that are no measurements.
const (
	doStart     = "start"
	doIntroduce = "introduce"
	doDirect    = "direct"
	doServe     = "serve"     // a carrier
	doSocket    = "socket"    // the node's UDP port
	doRoute     = "route"     // the address of the only peer
	doAttack    = "attack"    // packets a second poured at a target
	doProcessor = "processor" // seconds that this process has used
)

// here is this process as a host of one node, or of one carrier.
type here struct {
	node     *end
	carriers []Carrier
	stop     func()
}

func (h *here) do(ctx context.Context, j *job) (a *answer, err error) {
	a = new(answer)
	switch {
	case j.Do == doStart && j.Node != nil:
		h.node, a.Started, err = start(ctx, j.Node)
	case j.Do == doServe && j.Side != nil:
		a.Started, err = h.serve(ctx, j)
	case j.Do == doProcessor:
		a.Values = []float64{processor().Seconds()}
	case j.Do == doAttack:
		var rate float64
		rate, err = attack(ctx, j.Target, j.As, j.Each)
		a.Values = []float64{rate}
	case h.node == nil:
		err = errors.New("no node was started")
	case j.Do == doIntroduce && j.Peer != nil && h.node.stock != nil:
		err = h.node.introduce(j.Peer)
	case j.Do == doSocket && h.node.agent != nil:
		a.Values = []float64{float64(h.node.agent.Status().Network.Port)}
	case j.Do == doRoute && h.node.agent != nil:
		for _, p := range h.node.agent.Status().Peers {
			a.Addr = p.Via
		}
	case j.Do == doDirect:
		err = h.node.direct(ctx)
	default:
		a.Values, err = measure(ctx, j, h.node.dial)
	}
	return a, err
}

// serve starts a carrier.
func (h *here) serve(ctx context.Context, j *job) (*started, error) {
	for _, c := range h.carriers {
		if c.Name != j.Carrier {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); _ = c.Serve(ctx, l, j.Side) }() // what it ended with shows in every measurement
		h.stop = func() { cancel(); <-done }
		return &started{Addr: l.Addr().String()}, nil
	}
	return nil, fmt.Errorf("no carrier %q", j.Carrier)
}

func (h *here) close() error {
	if h.stop != nil {
		h.stop()
	}
	if h.node != nil {
		return h.node.close()
	}
	return nil
}

// Child is a host for another process of this program: jobs come in as JSON lines,
// answers go out. It ends with the input. It can also serve more carriers.
func Child(ctx context.Context, in io.Reader, out io.Writer, more ...Carrier) error {
	h := &here{carriers: append([]Carrier{ours(), splice()}, more...)}
	defer h.close()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var j job
		if err := json.Unmarshal(lines.Bytes(), &j); err != nil {
			return err
		}
		a, err := h.do(ctx, &j)
		if err != nil {
			a = &answer{Error: err.Error()}
		}
		if err := json.NewEncoder(out).Encode(a); err != nil {
			return err
		}
	}
	return lines.Err()
}

// there is another process as a host.
type there struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// spawn starts this program again as a host.
func spawn(ctx context.Context, args []string) (*there, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	t := &there{cmd: exec.CommandContext(ctx, exe, args...)}
	if t.in, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	t.out = bufio.NewReader(out)
	return t, t.cmd.Start()
}

func (t *there) do(_ context.Context, j *job) (*answer, error) {
	if err := json.NewEncoder(t.in).Encode(j); err != nil {
		return nil, fmt.Errorf("other process: %w", err)
	}
	line, err := t.out.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("other process: %w", err)
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return nil, fmt.Errorf("other process: %w", err)
	}
	if a.Error != "" {
		return nil, fmt.Errorf("other process: %s", a.Error)
	}
	return &a, nil
}

func (t *there) close() error { return errors.Join(t.in.Close(), t.cmd.Wait()) }
