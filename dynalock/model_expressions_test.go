package dynalock_test

import (
	goflag "flag"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/internal/model"
)

var modelFull = goflag.Bool("model.full", false,
	"tie the model to the library over more decisions and more paths: minutes")

// modelID is the acquisition id of a number of the model.
func modelID(id uint8) string { return fmt.Sprintf("%032x", id) }

func modelVersion(v model.Version) string { return fmt.Sprintf("%s-%d", modelID(v.ID), v.N) }

func TestTheLibrarysExpressionsDecideAsTheModelDoes(t *testing.T) {
	virtual(t, func(e *env) {
		decisions := map[model.Decision]int{}
		for _, m := range []model.Model{
			{Rates: []uint8{90, 110}, Attempt: 1, Faults: 2, Crashes: 1, Operators: 1, Guarded: true},
			{Rates: []uint8{100, 100, 100}, Attempt: 1, Faults: 2, Crashes: 1, Operators: 1, Guarded: true},
		} {
			m.Decisions = decisions
			states := 30_000
			if *modelFull {
				states = 5_000_000
			}
			if r := m.Search(states); r.Violation != nil {
				e.Errorf("%v\n%s", r.Violation, m.Trace(r.Path))
			}
		}
		c, _ := e.client(dynalock.CountByOne)
		l, err := c.TryAcquire(e.ctx, "key")
		must(e, err)
		template := e.item("key")
		must(e, l.Release(e.ctx))
		sound := &model.Model{}
		applied := map[model.Kind]int{}
		refused := map[model.Kind]int{}
		met := 0
		for d, times := range decisions {
			met += times
			want, ok := sound.Decide(d.Item, d.Write)
			if ok {
				applied[d.Write.Kind]++
			} else {
				refused[d.Write.Kind]++
				want = d.Item
			}
			if d.Item.Version.ID == 0 {
				e.delete("key")
			} else {
				it := maps.Clone(template)
				it["recordVersionNumber"] = s(modelVersion(d.Item.Version))
				it["stampedVersion"] = it["recordVersionNumber"]
				it["fencingToken"] = &types.AttributeValueMemberN{Value: fmt.Sprint(d.Item.Token)}
				delete(it, "isReleased")
				it["renewedAt"] = &types.AttributeValueMemberN{Value: "1"}
				if d.Write.Used || d.Write.Old {
					it["renewedAt"] = &types.AttributeValueMemberN{Value: fmt.Sprint(time.Now().Add(time.Second).UnixMilli())}
				}
				if d.Item.Released {
					it["isReleased"] = s("1")
				}
				e.put("key", it)
			}
			passed := decide(e, c, d.Write)
			if d.Write.Kind == model.Check && passed != ok {
				e.Errorf("%v on an item that is %v: passed %v, want %v", d.Write, d.Item, passed, ok)
			}
			got := e.item("key")
			version, token := modelVersion(want.Version), fmt.Sprint(want.Token)
			if ok && d.Write.Kind == model.Force { // an operator's version is his own
				version = text(got["recordVersionNumber"])
				check(e, version != modelVersion(d.Item.Version), "%v left the version as it was", d.Write)
			}
			if ok && d.Item.Version.ID == 0 { // the first token is made of time
				token = text(got["fencingToken"])
			}
			switch {
			case want.Version.ID == 0:
				check(e, len(got) == 0, "%v made an item of none: %v", d.Write, got)
			case text(got["recordVersionNumber"]) != version, text(got["fencingToken"]) != token,
				(text(got["isReleased"]) == "1") != want.Released:
				e.Errorf("%v on an item that is %v made it %v, want %v", d.Write, d.Item, got, want)
			}
		}
		e.Logf("%d pairs of an item and a write, which met %d times: applied %v, refused %v", len(decisions), met, applied,
			refused)
		for k := model.Acquire; k <= model.Check; k++ { // an operator frees what he sees at once, so that is never refused
			check(e, applied[k] > 0 && (refused[k] > 0 || k == model.Force), "%v was applied %d times and refused %d times", k,
				applied[k], refused[k])
		}
	})
}

// decide sends a write of the model as the library does. It tells whether a condition check passed.
func decide(e *env, c *dynalock.Client, w model.Write) bool {
	e.Helper()
	t := dynalock.Tenure{ID: modelID(w.Version.ID), Token: uint64(w.Token), Sent: uint64(w.Version.N - 1)}
	for _, n := range w.Open {
		if n > 0 {
			t.Open = append(t.Open, uint64(n))
		}
	}
	switch w.Kind {
	case model.Acquire:
		var admit []string
		if w.Admit.ID > 0 {
			admit = []string{modelVersion(w.Admit)}
		}
		dynalock.SendAcquire(e.ctx, c, "key", t.ID, uint64(w.Version.N), admit)
	case model.CleanUp:
		dynalock.SendCleanUp(e.ctx, c, "key", t.ID, t.Sent)
	case model.Beat:
		dynalock.SendBeat(e.ctx, c, "key", t)
	case model.Release:
		dynalock.SendRelease(e.ctx, c, "key", t)
	case model.Force:
		_ = c.ForceRelease(e.ctx,
			dynalock.Record{Key: "key", State: dynalock.Held, Version: modelVersion(model.Version{ID: w.Tenure, N: 1})})
	case model.Check:
		t.ID = modelID(w.Tenure)
		_, err := e.connect().TransactWriteItems(e.ctx,
			&dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{dynalock.CheckOf(c, "key", t)}})
		return err == nil
	}
	return false
}
