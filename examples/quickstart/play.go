package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
)

// play is one performance: its workers, and what becomes of them.
type play struct {
	*stage
	out     io.Writer
	pace    time.Duration // of a worker's work
	key     string        // of the lock, like no other in the table
	workers []*worker
	won     chan *tenure
	wg      sync.WaitGroup
	began   time.Time

	mu      sync.Mutex // guards what follows, and out
	tenures []*tenure
	account account
}

// worker stands for a process: a client of its own on a connection of its own.
type worker struct {
	name  string
	db    *dynamodb.Client
	line  *line
	locks *dynalock.Client
}

// tenure is a lock that a worker got, or did not.
type tenure struct {
	*worker
	lock *dynalock.Lock
	at   time.Time
	err  error
}

func newPlay(out io.Writer, s *stage, lease time.Duration) (*play, error) {
	p := &play{
		stage: s, out: out, pace: lease / 10, key: "quickstart-" + strings.ToLower(rand.Text()[:8]),
		won: make(chan *tenure, 10), began: time.Now(), account: account{lease: lease},
	}
	for _, name := range []string{"ana", "ben", "cleo"} {
		w := &worker{name: name}
		w.db, w.line = plug(s.connect(name))
		var err error
		w.locks, err = dynalock.New(w.db, s.table, func(o *dynalock.Options) {
			o.Owner = name
			o.Lease = lease
			o.MaxPoll = lease / 20 // looks at a held lock as often as this: the price of a quick hand-over
			o.Observer = observer(func(e dynalock.Event) {
				if e.Kind == dynalock.EventWaiting {
					p.say(w, "waits: %s holds it", e.By.Owner)
				}
			})
		})
		if err != nil {
			return nil, err
		}
		p.workers = append(p.workers, w)
	}
	return p, nil
}

type observer func(e dynalock.Event)

func (o observer) Observe(_ context.Context, e dynalock.Event) { o(e) }

// perform plays the acts in order. Who takes which part is up to who gets the lock.
func (p *play) perform(ctx context.Context) error {
	defer p.watch()()
	p.tell("All three ask for the lock, and one write decides. To wait costs reads, no writes.")
	for _, w := range p.workers {
		p.want(ctx, w)
	}
	first, err := p.next(ctx)
	if err != nil {
		return err
	}
	p.say(first.worker, "HAS THE LOCK, token %d", first.lock.Token())
	if err := p.work(ctx, first, 2); err != nil {
		return err
	}
	victim, err := p.handOver(ctx, first)
	if err != nil {
		return err
	}
	p.want(ctx, first.worker)
	if err := p.work(ctx, victim, 1); err != nil {
		return err
	}
	heir, err := p.cutOff(ctx, victim)
	if err != nil {
		return err
	}
	if err := p.work(ctx, heir, 1); err != nil {
		return err
	}
	if err := p.wakeUp(ctx, victim, heir); err != nil {
		return err
	}
	return p.finish(ctx, heir)
}

// cutOff takes the holder's network away and waits for the one who takes over.
func (p *play) cutOff(ctx context.Context, victim *tenure) (*tenure, error) {
	p.tell("%s is cut off from the network in the middle of its work, and nobody is told. The others watch\n"+
		"the version number that its heartbeats change: it has to stand still for the whole lease.", victim.name)
	victim.line.cut(true)
	p.say(victim.worker, "... silence: its heartbeats get nowhere")
	select {
	case <-victim.lock.Done():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.account.stopped = time.Now()
	p.say(victim.worker, "Held() is false and Done closed: by its own clock it may not act any more")
	heir, err := p.next(ctx)
	if err != nil {
		return nil, err
	}
	p.account.takenOver = heir.at
	p.account.silent = heir.at.Sub(victim.line.lastWrite())
	p.say(heir.worker, "TAKES OVER, token %d, %.2f s after %s's last heartbeat", heir.lock.Token(),
		p.account.silent.Seconds(), victim.name)
	return heir, nil
}

// wakeUp gives the network back to the victim, which goes on where it was.
func (p *play) wakeUp(ctx context.Context, victim, heir *tenure) error {
	p.tell("%s's network is back, and it still means to write.", victim.name)
	victim.line.cut(false)
	a, write := &p.account, p.result(victim)

	a.lateHeld = victim.lock.Held()
	p.say(victim.worker, "is back; Held() is %v", a.lateHeld)

	a.lateTransact = victim.lock.Transact(ctx, write)
	if errors.Is(a.lateTransact, dynalock.ErrLost) {
		p.say(victim.worker, "tries Transact: REFUSED by the library, the lock was lost")
	} else {
		p.say(victim.worker, "tries Transact: %v", a.lateTransact)
	}

	// A worker that was frozen between Held and its write has not asked. It is DynamoDB that evaluates the check.
	_, a.lateSent = victim.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
		TransactItems: []types.TransactWriteItem{write, victim.lock.ConditionCheck()},
	})
	if holder, refused := refusedBy(a.lateSent); refused {
		p.say(victim.worker, "sends its write all the same: REFUSED by DynamoDB, the lock is %s's", holder)
	} else {
		p.say(victim.worker, "sends its write all the same: %v", a.lateSent)
	}

	out, err := heir.db.GetItem(ctx,
		&dynamodb.GetItemInput{TableName: &p.table, Key: p.resultKey(), ConsistentRead: new(true)})
	if err != nil {
		return err
	}
	by, _ := out.Item["writtenBy"].(*types.AttributeValueMemberS)
	a.resultIsHeirs = by != nil && by.Value == heir.name
	if a.resultIsHeirs {
		p.say(heir.worker, "finds its result untouched")
	}
	return nil
}

// finish hands the lock on, to another process and within one, and gives it back for good.
func (p *play) finish(ctx context.Context, heir *tenure) error {
	p.tell("A release needs no lease to run out: who waits sees it at the next look.")
	next, err := p.handOver(ctx, heir)
	if err != nil {
		return err
	}
	p.tell("Another goroutine of %s's process wants the lock, too. One write ends a tenure and begins the next.",
		next.name)
	p.want(ctx, next.worker)
	if err := p.work(ctx, next, 1); err != nil {
		return err
	}
	last, err := p.handOver(ctx, next)
	if err != nil {
		return err
	}
	if err := p.work(ctx, last, 1); err != nil {
		return err
	}
	if err := last.lock.Release(ctx); err != nil {
		return err
	}
	p.say(last.worker, "releases")
	p.account.last, err = last.locks.Get(ctx, p.key)
	return err
}

// want has a worker ask for the lock. The tenure comes out of next. A wait outlasts a server that is gone, so it has a
// limit, far above what any of these takes.
func (p *play) want(ctx context.Context, w *worker) {
	p.say(w, "asks for the lock")
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, 10*p.account.lease)
		defer cancel()
		l, err := w.locks.Acquire(ctx, p.key)
		t := &tenure{w, l, time.Now(), err}
		if err == nil {
			p.mu.Lock()
			p.tenures = append(p.tenures, t)
			p.account.tokens = append(p.account.tokens, l.Token())
			p.mu.Unlock()
		}
		p.won <- t
	})
}

// next is whoever gets the lock next.
func (p *play) next(ctx context.Context) (*tenure, error) {
	select {
	case t := <-p.won:
		return t, t.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// work takes a while, and stores its result on condition that the worker still holds the lock.
func (p *play) work(ctx context.Context, t *tenure, steps int) error {
	for range steps {
		select {
		case <-time.After(p.pace):
		case <-t.lock.Done(): // the lock was lost: stop
			return t.lock.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := t.lock.Transact(ctx, p.result(t)); err != nil {
			return err
		}
		p.say(t.worker, "stores its result, guarded by the lock")
	}
	return nil
}

// handOver releases the lock and returns its next holder.
func (p *play) handOver(ctx context.Context, t *tenure) (*tenure, error) {
	released := time.Now()
	p.say(t.worker, "releases")
	if err := t.lock.Release(ctx); err != nil {
		return nil, err
	}
	next, err := p.next(ctx)
	if err != nil {
		return nil, err
	}
	p.say(next.worker, "HAS THE LOCK, token %d, %d ms after the release", next.lock.Token(),
		next.at.Sub(released).Milliseconds())
	return next, nil
}

// result is what the work of a tenure writes.
func (p *play) result(t *tenure) types.TransactWriteItem {
	item := p.resultKey()
	item["writtenBy"] = &types.AttributeValueMemberS{Value: t.name}
	item["token"] = &types.AttributeValueMemberN{Value: strconv.FormatUint(t.lock.Token(), 10)}
	return types.TransactWriteItem{Put: &types.Put{TableName: &p.table, Item: item}}
}

func (p *play) resultKey() map[string]types.AttributeValue { return keyOf(p.key + "-result") }

func keyOf(key string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: key}}
}

// watch looks again and again whether two workers believe that they hold the lock at once.
func (p *play) watch() (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.Tick(5 * time.Millisecond); ; {
			select {
			case <-tick:
				p.look()
			case <-end:
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

func (p *play) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.account.looks++
	for i, a := range p.tenures {
		for _, b := range p.tenures[:i] {
			if a.lock.Held() && b.lock.Held() && a.lock.Held() { // asked twice: b may have got it from a in between
				p.account.overlaps++
			}
		}
	}
}

// leave ends what is still under way and deletes the items of this play, and no others.
func (p *play) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var errs []error
	for _, w := range p.workers {
		w.line.cut(false)
		errs = append(errs, w.locks.Close(ctx))
	}
	p.wg.Wait()
	db := p.connect("setup")
	for _, key := range []map[string]types.AttributeValue{keyOf(p.key), p.resultKey()} {
		_, err := db.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &p.table, Key: key})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// tell explains what comes next.
func (p *play) tell(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	printf(p.out, "\n"+format+"\n", args...)
}

// say puts an event on the time line.
func (p *play) say(w *worker, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	printf(p.out, "%7.2f s  %-5s "+format+"\n", append([]any{time.Since(p.began).Seconds(), w.name}, args...)...)
}

// printf tells those who listen.
func printf(out io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(out, format, args...) }
