// Package tui is the terminal UI: one root model that routes messages, keeps what was
// read from the server, and lays screens out; a folder under screen for each of them.
//
// It talks to the server through screen.Client and nothing else. Update does no I/O: every
// effect is a command, and what it finds comes back as a message. The audit stream says
// that something changed; the organisation is then read again, at most twice a second, so
// a storm of events costs no more than a trickle. What is kept is bounded: one reading,
// and the newest screen.MaxAudit records. A server that goes away takes nothing with it:
// the last reading stays, marked as old, and so does what is typed.
package tui

import (
	"errors"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/screen/audit"
	"enclave/tui/screen/enrolment"
	"enclave/tui/screen/explain"
	"enclave/tui/screen/flows"
	"enclave/tui/screen/names"
	"enclave/tui/screen/overview"
	"enclave/tui/screen/policies"
	"enclave/tui/screen/reach"
	"enclave/tui/screen/relays"
	"enclave/tui/screen/runs"
	"enclave/tui/screen/seal"
	"enclave/tui/screen/systems"
	"enclave/tui/screen/trust"
	"enclave/tui/theme"
	"enclave/tui/tour"
	"enclave/wire/api"
)

// How often the clock moves, and how old a reading may get when nothing happens.
// Connects and disconnects are no records of the trail, hence the second.
const (
	beat     = 500 * time.Millisecond
	readAge  = 3 * time.Second
	awayBeat = time.Second
)

// Model is the root.
type Model struct {
	state   screen.State
	screens []screen.Screen
	at      int
	w, h    int
	bodyW   int // of what View drew last; a click is judged by it
	bodyH   int
	help    help
	palette *palette  // nil is closed
	change  *proposal // nil is none
	said    screen.Say
	reading bool
	dirty   bool // something changed since the last reading began
	read    time.Time
	records <-chan api.AuditRecord // nil in tests
	trail   error                  // why records do not come
	turn    int
	tour    *tour.Model // nil outside the demo
}

// Config says what a Model draws, and for whom.
type Config struct {
	Client   screen.Client
	Theme    theme.Theme
	ReadOnly bool
	Now      time.Time
	Tour     tour.Guide // leads through the demo; nil is no tour
	records  <-chan api.AuditRecord
}

// New makes the root model; it asks nothing before Init.
func New(cfg Config) *Model {
	m := &Model{
		state: screen.State{Theme: cfg.Theme, Client: cfg.Client, ReadOnly: cfg.ReadOnly, Now: cfg.Now},
		screens: []screen.Screen{overview.New(), systems.New(), policies.New(), explain.New(), flows.New(), audit.New(), reach.New(),
			enrolment.New(), relays.New(), trust.New(), names.New(), seal.New(), runs.New()},
		w: 80, h: 24, records: cfg.records,
	}
	if cfg.Tour != nil {
		m.tour = tour.New(cfg.Tour)
	}
	return m
}

// The bindings of every screen.
var (
	nextScreen = keys.New("next screen", "tab")
	prevScreen = keys.New("screen before", "shift+tab")
	helpKey    = keys.New("help", "?")
	helpAlways = keys.New("help, also while typing", "f1")
	commandKey = keys.New("command palette", ":")
	readKey    = keys.New("read again", "ctrl+r")
	quitKey    = keys.New("quit", "q")
	endKey     = keys.New("quit, whatever is open", "ctrl+c")
)

func globals() []keys.Binding {
	return []keys.Binding{nextScreen, prevScreen, helpKey, helpAlways, commandKey, readKey, quitKey, endKey}
}

// everywhere are the bindings of every screen, those of the tour among them.
func (m *Model) everywhere() []keys.Binding {
	if m.tour == nil {
		return globals()
	}
	return append(m.tour.Keys(), globals()...)
}

// screenKey is 1 to 9, then 0, then alt+1 on.
func screenKey(i int) keys.Binding {
	key := string(rune('0' + (i+1)%10))
	if i > 9 {
		key = "alt+" + key
	}
	return keys.New("this screen", key)
}

type (
	tick   time.Time
	loaded struct {
		org screen.Org
		err error
	}
	records []api.AuditRecord
	lost    struct{ err error } // the audit stream ended; nil is that it is back
)

// Init begins the clock, the first reading and the stream.
func (m *Model) Init() tea.Cmd {
	m.reading = true
	cmds := []tea.Cmd{clock(), load(m.state.Client), listen(m.records)}
	if m.tour != nil {
		cmds = append(cmds, m.tour.Begin())
	}
	return tea.Batch(cmds...)
}

func clock() tea.Cmd { return tea.Tick(beat, func(t time.Time) tea.Msg { return tick(t) }) }

// Update routes a message.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.w, m.h = msg.Width, msg.Height
		return m, nil
	case tea.KeyMsg:
		return m, m.keys(msg)
	case tea.MouseMsg:
		return m, m.mouse(msg)
	case tick:
		return m, m.ticked(time.Time(msg))
	case loaded:
		m.reading = false
		m.state.Line.Err = msg.err
		if msg.err == nil {
			m.state.Org, m.state.Loaded, m.state.Line.Since = msg.org, true, m.state.Now
		}
		return m, nil
	case records:
		m.keep(msg)
		m.dirty = true
		return m, listen(m.records)
	case lost:
		m.trail = msg.err
		return m, nil
	case screen.Say:
		m.said = msg
		return m, nil
	case screen.Propose:
		m.change = &proposal{Propose: msg, dry: true}
		return m, m.change.run()
	case answer:
		return m, m.answered(msg)
	case tour.Answer:
		return m, m.tour.Update(msg)
	}
	// What a screen asked for comes back to it, also when another is on top by then. Each
	// has message types of its own.
	var cmds []tea.Cmd
	for _, s := range m.screens {
		cmds = append(cmds, s.Update(msg, &m.state))
	}
	return m, tea.Batch(cmds...)
}

func (m *Model) current() screen.Screen { return m.screens[m.at] }

func (m *Model) ticked(now time.Time) tea.Cmd {
	m.state.Now = now
	m.turn++
	cmds := []tea.Cmd{clock()}
	age := now.Sub(m.read)
	if !m.reading && (m.dirty || age >= readAge || (m.state.Line.Err != nil && age >= awayBeat)) {
		cmds = append(cmds, m.reload())
	}
	if m.turn%2 == 0 {
		cmds = append(cmds, m.current().Update(screen.Tick{}, &m.state))
	}
	if m.tour != nil {
		cmds = append(cmds, m.tour.Tick())
	}
	return tea.Batch(cmds...)
}

func (m *Model) reload() tea.Cmd {
	m.reading, m.dirty, m.read = true, false, m.state.Now
	return load(m.state.Client)
}

// keep appends records and forgets the oldest. The slice is made anew once in a while,
// so what was forgotten is free.
func (m *Model) keep(list []api.AuditRecord) {
	all := append(m.state.Audit, list...)
	if over := len(all) - screen.MaxAudit; over > 0 {
		all = append(make([]api.AuditRecord, 0, 2*screen.MaxAudit), all[over:]...)
	}
	m.state.Audit = all
}

// keys takes keys that came together one by one, as over a slow line several letters are
// read at once. What is pasted is text: it is for text fields and never a command.
func (m *Model) keys(k tea.KeyMsg) tea.Cmd {
	if k.Type != tea.KeyRunes || k.Paste || len(k.Runes) < 2 {
		return m.pressed(k)
	}
	var cmds []tea.Cmd
	for _, r := range k.Runes {
		one := k
		one.Runes = []rune{r}
		if r == ' ' {
			one.Type = tea.KeySpace
		}
		cmds = append(cmds, m.pressed(one))
	}
	return tea.Batch(cmds...)
}

// pressed gives a key to whoever it is for: what is on top, then a text field, then the
// root, then the screen.
func (m *Model) pressed(k tea.KeyMsg) tea.Cmd {
	m.said = screen.Say{}
	if m.tour != nil && m.palette == nil {
		if cmd, own := m.tour.Pressed(k); own {
			return cmd
		}
	}
	switch {
	case endKey.Is(k):
		return tea.Quit
	case m.change != nil:
		return m.decided(k)
	case m.palette != nil:
		return m.chosen(k)
	case m.help.open:
		m.help.pressed(k)
		return nil
	case helpAlways.Is(k):
		m.help.open = true
		return nil
	case m.current().Typing():
		return m.current().Update(k, &m.state)
	}
	for i := range m.screens {
		if screenKey(i).Is(k) {
			return m.show(i)
		}
	}
	switch {
	case quitKey.Is(k):
		return tea.Quit
	case helpKey.Is(k):
		m.help.open = true
	case commandKey.Is(k):
		m.palette = newPalette()
	case readKey.Is(k):
		if !m.reading {
			return m.reload()
		}
	case nextScreen.Is(k):
		return m.show((m.at + 1) % len(m.screens))
	case prevScreen.Is(k):
		return m.show((m.at + len(m.screens) - 1) % len(m.screens))
	default:
		return m.onScreen(k)
	}
	return nil
}

var errReadOnly = errors.New("this terminal only reads (--read-only)")

// onScreen is where --read-only is kept: no binding that writes reaches a screen.
func (m *Model) onScreen(k tea.KeyMsg) tea.Cmd {
	for _, b := range m.current().Keys() {
		if b.Write && m.state.ReadOnly && b.Is(k) {
			return screen.Tell("", errReadOnly)
		}
	}
	return m.current().Update(k, &m.state)
}

func (m *Model) show(i int) tea.Cmd {
	m.at = i
	return m.current().Update(screen.Shown{}, &m.state)
}
