package agent

import (
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// view is what the loop has published last. It is immutable.
type view struct {
	*directory
	state    string
	self     wire.Self
	revision wire.Revision
	until    time.Time
	control  api.ControlStatus
	reach    *wire.Reach
	rejected []api.RejectedPeer
	trouble  error // with the data plane
	witness  *witness
}

// publish makes the loop's state visible and wakes whoever waits for a change.
func (l *looper) publish() {
	v := &view{
		directory: l.names, state: l.stateWord(), revision: l.applied,
		control: l.status, reach: l.reach, rejected: l.chart.rejected, trouble: l.trouble, witness: l.st.Witness,
	}
	if told := l.chart.told; told != nil {
		v.self, v.until = told.Self, told.ValidUntil
	}
	l.say(v)
	l.view.Store(v)
	l.events.announce()
}

// say logs the states that somebody at the keyboard waits for, or has to act on; the
// others are logged with their cause.
func (l *looper) say(v *view) {
	if v.state == l.view.Load().state {
		return
	}
	switch v.state {
	case api.AgentRunning:
		l.log.Info("connected", "control", v.control.URL, "system", v.self.ID, "name", v.self.Name, "ipv4", v.self.IPv4)
	case api.AgentPending:
		l.log.Info("this system reaches nothing until it is approved", "system", v.self.ID, "next", "enclave system approve "+string(v.self.ID))
	case api.AgentDisabled:
		l.log.Warn("this system is disabled", "system", v.self.ID, "next", "enclave system enable "+string(v.self.ID))
	}
}

func (l *looper) stateWord() string {
	told := l.chart.told
	switch {
	case told == nil:
		return api.AgentStarting
	case told.Self.State == wire.Pending:
		return api.AgentPending
	case told.Self.State == wire.Disabled:
		return api.AgentDisabled
	case l.closed:
		return api.AgentClosed
	case l.status.Connected:
		return api.AgentRunning
	}
	return api.AgentOffline
}

// current is what is to be reported to control.
func (a *Agent) current() wire.Report {
	v := a.view.Load()
	return wire.Report{Applied: v.revision, Reach: v.reach}
}
