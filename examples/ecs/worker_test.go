package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func TestARollingReplacementLeavesOnePollWithoutALeader(t *testing.T) {
	f := newFleet(t)
	tasks := map[string]*task{}
	for _, name := range []string{"old-1", "old-2", "old-3"} {
		tasks[name] = f.start(f.srv.Endpoint(), name)
	}
	lead := f.leader(0)
	for _, name := range []string{"new-1", "new-2", "new-3"} { // at least 100 %, at most 200 %
		tasks[name] = f.start(f.srv.Endpoint(), name)
		leaving := lead.worker // the leader first: the worst order
		if !strings.HasPrefix(leaving, "old") {
			for other := range tasks {
				if strings.HasPrefix(other, "old") {
					leaving = other
				}
			}
		}
		k := tasks[leaving]
		delete(tasks, leaving)
		took := k.stop()
		if k.err != nil {
			t.Errorf("%s ended with %v", leaving, k.err)
		}
		t.Logf("%s was gone %.2f leases after SIGTERM", leaving, float64(took)/float64(f.lease))
		if leaving == lead.worker {
			lead = f.leader(lead.Token)
		}
	}
	for range 2 { // the service is scaled in, the leader first
		f.work(lead.Token)
		tasks[lead.worker].stop()
		lead = f.leader(lead.Token)
	}
	f.work(lead.Token)
	tasks[lead.worker].stop()
	gaps := f.handOvers()
	if len(gaps) < 3 {
		t.Fatalf("the lead changed %d times, want 3 or more", len(gaps))
	}
	for _, h := range gaps {
		t.Logf("%s to %s: %.2f polls without a leader", h.from.worker, h.to.worker, float64(h.gap)/float64(f.poll))
	}
	for _, r := range f.log() {
		if r.Msg == "lock taken over" || r.Msg == "lock lost" { // a lease ran out
			t.Errorf("%s: %s", r.worker, r.text)
		}
	}
	if srv := f.srv.Embedded(); srv != nil {
		looks := looksBetweenTenures(srv)
		t.Logf("looks of the successor at the free lock: %v", looks)
		if len(looks) != len(gaps) || slices.Max(looks) > 1 {
			t.Errorf("%d successors looked %v times at the free lock, want once each", len(gaps), looks)
		}
		checkPermissions(t, srv)
	}
}

// looksBetweenTenures counts, for each tenure that followed a release, the reads of its holder in between.
func looksBetweenTenures(srv *dynalocktest.Server) (looks []int) {
	free, reads := false, map[string]int{}
	for _, r := range srv.Requests() {
		if r.Key != namespace+"leader" || !r.Applied {
			continue
		}
		if r.Operation == "GetItem" {
			reads[r.Client]++
		}
		for _, w := range r.Writes {
			_, isFree := w.New()["isReleased"]
			if free && !isFree {
				looks = append(looks, reads[r.Client])
			}
			free, reads = isFree, map[string]int{}
		}
	}
	return looks
}

// checkPermissions holds what the workers asked for against what the Terraform example lets them do.
func checkPermissions(t *testing.T, srv *dynalocktest.Server) {
	t.Helper()
	var library struct {
		Actions struct{ Holder struct{ Item []string } }
	}
	text, err := os.ReadFile("../../terraform/library.json")
	must(t, err)
	must(t, json.Unmarshal(text, &library))
	allowed := library.Actions.Holder.Item
	for _, r := range srv.Requests() {
		if !strings.HasPrefix(r.Client, "worker") {
			continue
		}
		action := "dynamodb:" + r.Operation
		if r.Operation == "TransactWriteItems" { // of an Update and a ConditionCheck
			action = "dynamodb:UpdateItem"
		}
		if !slices.Contains(allowed, action) || !strings.HasPrefix(r.Key, namespace) {
			t.Fatalf("%s of %q is not allowed to a worker", r.Operation, r.Key)
		}
	}
}

func TestAKilledLeaderIsFollowedALeaseAndAPollLater(t *testing.T) {
	f := newFleet(t)
	tasks := map[string]*task{}
	for _, name := range []string{"w-1", "w-2", "w-3"} {
		tasks[name] = f.start(f.srv.Endpoint(), name)
	}
	lead := f.leader(0)
	killed := tasks[lead.worker].kill()
	delete(tasks, lead.worker)
	next := f.leader(lead.Token)
	gap := next.Time.Sub(killed)
	t.Logf("%.2f leases without a leader", float64(gap)/float64(f.lease))
	// Its last heartbeat was at most one period and one attempt before its death.
	if gap < f.lease-f.lease/5-f.lease/5 {
		t.Errorf("a leader %v after the death of the last: its lease is %v", gap, f.lease)
	}
	if gap > 2*f.lease { // a lease, a poll and two requests, on a machine that is busy with other tests
		t.Errorf("a leader only %v after the death of the last: its lease is %v, a poll %v", gap, f.lease, f.poll)
	}
	f.work(next.Token)
	for _, k := range tasks {
		k.stop()
	}
	f.handOvers()
}

func TestALeaderWithoutNetworkIsUnwellAndStopsBeforeTheNextOneLeads(t *testing.T) {
	f := newFleet(t)
	net := f.network()
	cut := f.start(net.url, "cut-1")
	lead := f.leader(0)
	other := f.start(f.srv.Endpoint(), "other-1")
	f.work(lead.Token)

	net.sever("TransactWriteItems")
	severed := time.Now()
	unwell := f.eventually("an unwell worker", func() bool { return !cut.well() })
	next := f.leader(lead.Token)
	if unwell.After(next.Time) {
		t.Errorf("the health check failed only after the next leader began")
	}
	if other.health() != nil {
		t.Error("the next leader is unwell")
	}
	t.Logf("unwell %.2f leases after the cut, followed after %.2f", float64(unwell.Sub(severed))/float64(f.lease),
		float64(next.Time.Sub(severed))/float64(f.lease))
	f.work(next.Token)
	if cut.health() == nil {
		t.Error("a worker without network is well again")
	}

	// What the old leader sent before it stopped arrives now, and DynamoDB refuses it for the lock's sake.
	late := net.mend()
	for _, reasons := range late {
		if len(reasons) != 2 || reasons[1] != "ConditionalCheckFailed" {
			t.Errorf("a late write was refused for %q", reasons)
		}
	}
	if len(late) == 0 {
		t.Error("no write was late")
	}
	t.Logf("%d late writes were refused", len(late))
	f.eventually("a worker that is well again", cut.well)
	other.stop()
	f.await("the lead of the worker that was cut off",
		func(r record) bool { return r.worker == "cut-1" && r.Msg == "leading" && r.Token > next.Token })
	cut.stop()
	if gaps := f.handOvers(); len(gaps) != 2 {
		t.Errorf("%d changes of the lead, want 2", len(gaps))
	}
}

func TestALeaderWithoutNetworkIsGoneBeforeECSKillsIt(t *testing.T) {
	f := newFleet(t)
	net := f.network()
	cut := f.start(net.url, "cut-1")
	f.leader(0)
	net.sever("UpdateItem") // a heartbeat
	took := cut.stop()
	t.Logf("gone %.2f leases after SIGTERM", float64(took)/float64(f.lease))
	if took > closeWithin+2*time.Second {
		t.Errorf("gone only after %v, the limit is %v", took, closeWithin)
	}
	if cut.err == nil {
		t.Error("a lock that was not given back is no success")
	}
}

func TestTheLeadersAddressIsPublished(t *testing.T) {
	f := newFleet(t)
	a := f.start(f.srv.Endpoint(), "a")
	lead := f.leader(0)
	b := f.start(f.srv.Endpoint(), "b")
	resp, err := http.Get("http://" + b.address + "/leader")
	must(t, err)
	defer resp.Body.Close() //nolint:errcheck // of a test
	var got struct {
		State, Address string
		Term           uint64
	}
	must(t, json.NewDecoder(resp.Body).Decode(&got))
	if got.State != "held" || got.Address != a.address || got.Term != lead.Token {
		t.Errorf("the leader is %+v, want %s in term %d", got, a.address, lead.Token)
	}
}

func TestAWorkerThatCannotWorkSaysWhyAndFails(t *testing.T) {
	f := newFleet(t)
	for _, tt := range []struct {
		name, env string
		args      []string
		want      string
	}{
		{name: "no table", env: "DYNALOCK_TABLE=", want: "DYNALOCK_TABLE is empty"},
		{
			name: "a table that does not exist", env: "DYNALOCK_TABLE=nowhere", args: []string{"-listen=127.0.0.1:0"},
			want: "nowhere",
		},
		{name: "a lease that is too short", args: []string{"-lease=1ms"}, want: "-lease is 1ms"},
		{name: "a tick of nothing", args: []string{"-tick=0"}, want: "-tick is 0s"},
		{name: "an address that is none", args: []string{"-listen=nowhere"}, want: "nowhere"},
		{name: "an argument", args: []string{"now"}, want: `unexpected argument \"now\"`},
		{
			name: "the health check where nobody listens", args: []string{"-health", "-listen=127.0.0.1:1"},
			want: "127.0.0.1:1",
		},
	} {
		cmd := f.command(f.srv.Endpoint(), "failing", tt.args...)
		cmd.Env = append(cmd.Env, tt.env)
		out, err := cmd.Output()
		if err == nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s: %v, %s; want %q", tt.name, err, out, tt.want)
		}
	}
}

func TestTheTableCanBeCreatedTwice(t *testing.T) {
	f := newFleet(t)
	if out, err := f.command(f.srv.Endpoint(), "create", "-create-table").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestWhatTheImageHasIsWhatTheTaskDefinitionCalls(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		text, err := os.ReadFile(name)
		must(t, err)
		return string(text)
	}
	dockerfile, compose := read("Dockerfile"), read("compose.yaml")
	task, variables := read("../../terraform/examples/ecs/main.tf"), read("../../terraform/examples/ecs/variables.tf")
	for _, want := range []struct{ in, text, pattern string }{
		{"Dockerfile", dockerfile, `(?m)^ENTRYPOINT \["/worker"\]$`},
		{"Dockerfile", dockerfile, `(?m)^USER 65532:65532$`},
		{"compose.yaml", compose, `test: \["CMD", "/worker", "-health"\]`},
		{"compose.yaml", compose, `read_only: true`},
		{"compose.yaml", compose, `stop_grace_period: 30s`},
		{"main.tf", task, `"DYNALOCK_TABLE"`},
		{"main.tf", task, `"DYNALOCK_NAMESPACE"`},
		{"main.tf", task, `stopTimeout = 30\b`},
		{"main.tf", task, `readonlyRootFilesystem = true`},
		{"variables.tf", variables, `\["CMD", "/worker", "-health"\]`},
	} {
		if !regexp.MustCompile(want.pattern).MatchString(want.text) {
			t.Errorf("%s has nothing that matches %s", want.in, want.pattern)
		}
	}
	if closeWithin >= 30*time.Second {
		t.Errorf("a worker that stops may take %v, and is killed before", closeWithin)
	}
}

// work waits for a piece of work of a term.
func (f *fleet) work(term uint64) {
	f.Helper()
	f.await(fmt.Sprintf("work of term %d", term), func(r record) bool { return r.Msg == "worked" && r.Token == term })
}

// eventually waits for something that only asking tells, and returns when it was.
func (f *fleet) eventually(what string, is func() bool) time.Time {
	f.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(f.poll / 10) {
		if is() {
			return time.Now()
		}
	}
	f.dump()
	f.Fatalf("%s was not seen within %v", what, patience)
	return time.Time{}
}
