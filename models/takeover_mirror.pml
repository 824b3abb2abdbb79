/* Takeover and mirror: docs/protocols/takeover.md, log.md, boot.md, for one identity whose home is A. A serves,
   mirrors into B's NVRAM, marks durability modes in the mailbox, dies, boots; B closes its mirror window, fences each
   disk, reads again, marks, waits for the lease, replays, serves, dies, resumes or hands back what it had not marked.

   Bounds: 3 disks, each with a copy of the mailbox; disk 0 has the superblock too, disks 1 and 2 have data. WRITES of
   clients, CRASHES of either node at any step, CUTS of the interconnect, TRIES takeovers that fence. A pause needs no
   bound: no process has to move, so each may stand still for as long and as often as it likes; the lease alone is bound
   to time, and it does end while its owner stands still. B trusts no detection: it may take over at any moment.
   Commands that a disk has accepted and RDMA writes on their way outlive their sender.
   Left out: damage to NVRAM and torn mailbox writes (unit tests), the two copies of a block (giveback.pml), B's own
   identity (simultaneous.pml) except that A may hold it, which is when A may acknowledge from its own NVRAM alone. */

/* check: -DCRASHES=2 -DWRITES=3 -DCUTS=1 */
/* check: -DCRASHES=1 -DWRITES=3 -DCUTS=1 -DTRIES=2 */
/* check: -DCRASHES=2 -DWRITES=1 -DCUTS=1 -DTRIES=2 */
/* check small: -DWRITES=1 */
/* without ABORT -DWRITES=1: an older command lands after the fence */
/* without REVOKING: a late RDMA write overwrites the log of the survivor */
/* without FENCING_ALL -DCRASHES=0 -DWRITES=1: one disk is left to its owner, who goes on writing there */
/* without REREADING -DTRIES=2: a mark made between the check and the fence is not seen */
/* without AWAITING_LEASE: two nodes answer */
/* without LEASE_ON_RESUME: the same after the survivor has died and resumes (found by this model) */
/* without FRESH_STOP -DWRITES=1: the same when A, known to have stopped, has come up meanwhile (found by this model) */
/* without MARK_FIRST: acknowledged from one NVRAM while the mailbox says two */
/* without HONOURING_MARKS -DWRITES=1: replays a mirror that the mailbox calls stale */
/* without FULL_RESYNC -DWRITES=1: a mirror counts before it is complete */
/* without POOL_FIRST: write-through marked while the log is needed */
/* without MARK_BEFORE_SERVING: nobody knows who served */
/* without REPLAYING_AGAIN: the log is freed before the consistency point */
/* without STAND_DOWN -DWRITES=1: A lets itself in again */

#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef CUTS
#define CUTS 1
#endif
#ifndef WRITES
#define WRITES 3
#endif
#ifndef TRIES
#define TRIES 1
#endif

mtype:inv = { I1_no_acknowledged_write_lost, I2_one_node_answers, I3_no_older_write_lands, I5_epochs_never_decrease,
              I6_keys_of_the_serving_node_only, I18_served_at_last, L9_acknowledged_at_last, B3_never_over_exclusive };
#define must(name, condition) assert((condition) || !name)

/* Reservations. A's is Write Exclusive; B's is Exclusive Access, or Write Exclusive once handed back. */
#define BY_A 0
#define BY_B 1
#define BACK 2 /* B, handed back */
#define HOLD(d, who) held = (held & ~(3 << (2 * (d)))) | ((who) << (2 * (d)))
#define HELD(d) ((held >> (2 * (d))) & 3)
#define ANY_EXCLUSIVE (HELD(0) == BY_B || HELD(1) == BY_B || HELD(2) == BY_B)
#define ALL_OF_A (held == 0)
#define MAJORITY_OF_A ((HELD(0) == BY_A) + (HELD(1) == BY_A) + (HELD(2) == BY_A) >= 2)
byte held;

/* A mailbox block: generation, epoch, taken over by B, durability, whose NVRAM has the log. Its epoch of the log is left out: nobody
   decides by it. */
#define NONE 0 /* no mark of this boot */
#define MIRRORED 1
#define LOCAL 2
#define WRITE_THROUGH 3
#define BOX(gen, epoch, taken, mode, at_b) ((gen) | ((epoch) << 4) | ((taken) << 7) | ((mode) << 8) | ((at_b) << 10))
#define GEN(x) ((x) & 15)
#define EPOCH(x) (((x) >> 4) & 7)
#define TAKEN(x) (((x) >> 7) & 1)
#define MODE(x) (((x) >> 8) & 3)
#define AT_B(x) (((x) >> 10) & 1)
short box[3] = BOX(1, 1, 0, MIRRORED, 0);
#define BETTER(i, j) (GEN(box[i]) >= GEN(box[j]) -> box[i] : box[j])
#define BEST (GEN(box[0]) >= GEN(box[1]) && GEN(box[0]) >= GEN(box[2]) -> box[0] : BETTER(1, 2))

/* Commands of A that a disk has accepted, as bits by disk; they outlive A, unless they are aborted. */
byte marking;  /* mailbox writes, of `mark` */
short mark;
byte flushing; /* of the consistency point: data on disk 2, then the superblock on disk 0 */
byte covers;   /* log records that it contains */
bit aborted;   /* a command of this boot of A got no answer */

/* The pool: log position and epoch of the superblock. A write that is in it is safe for ever. */
byte position;
byte pool_epoch = 1;

/* The log: rings of both nodes. No protocol looks at what a write is, so one of them is watched, and it may be any. Slots below
   `position` are empty: nobody looks there. */
#define EMPTY 0
#define OTHER 1
#define WATCHED 2
byte ring_a[3], ring_b[3];
byte head_a, head_b;
byte sealed = 1;    /* epoch of the control block at B; 0: older than the pool's, how much does not matter */
bit window = 1;     /* B's region may be written */
bit rdma;           /* of A: a write is on its way */
byte rdma_from, rdma_to; /* records */

byte issued; /* client writes so far */
bit watched; /* one of them has been chosen to be watched */
bit acked;   /* it has been acknowledged, and no consistency point has it */

mtype = { off, claim_0, claim_1, claim_2, claim_again, rereading, marking_claim, replaying, up,
          leftovers, checking, closing, fence_0, fence_1, fence_2, fence_again, confirming, mark_0, mark_1, mark_2,
          awaiting_lease, serving, back_0, back_1, back_2 };
mtype a = up, b = up;

/* Of A's present boot. */
byte epoch_a = 1;
byte mirror = 2; /* 0 down, 1 resync, 2 complete */
byte there;    /* records that A knows to be at B */
byte answered; /* records acknowledged or freed */
byte marked = MIRRORED, wanted;
bit lease = 1;
short seen;    /* the mailbox as read before the claim */

bit holds_b;   /* A has fenced B and serves its identity: on disk, so it outlives A */

/* Of B's present boot. */
short checked, confirmed;
bit known_stopped;   /* A is known to have known_stopped: its lease needs no waiting */
bit local_b;   /* B has marked `local` */
byte answered_b;
byte tries;

byte crashes, cuts;

#define no_rdma rdma = 0; rdma_from = 0; rdma_to = 0
/* A write whose sender hears no more of it has landed, or never lands: nobody looks before B closes its window. */
#ifdef WITHOUT_REVOKING
#define late skip
#else
#define late no_rdma
#endif

hidden byte i, n, found; /* scratch within a step */

inline look_for_watched(slot, from, to) { /* `slot`: of number i */
  i = from; found = 0;
  do :: i < to -> found = found || (slot == WATCHED); i++ :: else -> break od;
  i = 0
}
inline acknowledge_records(slot, from, to) {
  look_for_watched(slot, from, to);
  acked = acked || found; found = 0
}

/* What the node that begins to serve can see. */
inline check_nothing_lost(slot, from, to) {
  look_for_watched(slot, from, to);
  must(I1_no_acknowledged_write_lost, !acked || found);
  found = 0
}

inline age_seal() { if :: sealed < pool_epoch -> sealed = 0 :: else fi }

/* A superblock has what goes before `to`. */
inline into_pool(slot, to) {
  look_for_watched(slot, position, to);
  acked = acked && !found; found = 0;
  position = to;
  if :: mirror && there < position -> there = position :: else fi;
  do :: i < position -> ring_a[i] = EMPTY; ring_b[i] = EMPTY; i++ :: else -> break od;
  i = 0
}

/* Of a node that is off and taken over nobody reads its log again. */
inline forget_ring_a() {
  if :: a == off && TAKEN(BEST) && HELD(0) == BY_B && !rdma -> ring_a[0] = 0; ring_a[1] = 0; ring_a[2] = 0; covers = 0 :: else fi
}

inline end_a() { /* crash, or the reboot of a fenced node: what was sent stays on its way */
  if :: flushing == 0 -> covers = 0 :: else fi;
  a = off; mirror = 0; there = 0; answered = 0; marked = NONE; wanted = NONE; lease = 0; aborted = 0; seen = 0;
  head_a = 0; epoch_a = 0;
  forget_ring_a()
}

inline abort_on(d) { /* the ABORT of PREEMPT AND ABORT */
  if :: (marking | flushing) & (1 << (d)) ->
       marking = marking & ~(1 << (d)); flushing = flushing & ~(1 << (d));
       aborted = 1
     :: else
  fi;
  if :: marking == 0 -> mark = 0 :: else fi;
  if :: flushing == 0 -> covers = 0 :: else fi
}

/* log.md, "Which mode" */
#define DESIRED \
  (mirror == 2 -> MIRRORED : \
   (mirror == 1 -> ((holds_b || marked == LOCAL) -> LOCAL : WRITE_THROUGH) : (holds_b -> LOCAL : WRITE_THROUGH)))
#define AT_PARTNER (there > position -> there : position)
#define ALLOWED(mode) \
  (mode == MIRRORED -> (mirror == 2 -> AT_PARTNER : position) : (mode == LOCAL -> head_a : position))
#define MIN(x, y) ((x) < (y) -> (x) : (y))
#ifdef WITHOUT_MARK_FIRST
#define ACKNOWLEDGEABLE ALLOWED(DESIRED)
#else
#define ACKNOWLEDGEABLE \
  MIN(MIN(ALLOWED(marked), ALLOWED(DESIRED)), (wanted != NONE -> ALLOWED(wanted) : head_a))
#endif
#ifdef WITHOUT_POOL_FIRST
#define MAY_MARK(mode) 1
#else
#define MAY_MARK(mode) \
  ((mode == WRITE_THROUGH -> position >= answered : 1) && (mode == MIRRORED -> AT_PARTNER >= answered : 1))
#endif

inline issue(slot, what) { issued++; watched = watched || (what == WATCHED); slot = what }
inline append_a(what) { issue(ring_a[head_a], what); head_a++ }
inline land_rdma() { i = rdma_from; do :: i < rdma_to -> ring_b[i] = ring_a[i]; i++ :: else -> break od; i = 0 }
inline send() { rdma = 1; rdma_from = there; rdma_to = head_a }

/* At once: that leaves the survivor most to keep. Later than `lease` it could not be. */
inline acknowledge() {
  n = ACKNOWLEDGEABLE;
  if :: lease && answered < n ->
       must(I2_one_node_answers, b != serving);
       acknowledge_records(ring_a[i], answered, n); answered = n
     :: else
  fi;
  n = 0
}

/* Generations matter only while they differ. */
inline count_anew() {
  box[0] = (box[0] & ~15) | 1; box[1] = (box[1] & ~15) | 1; box[2] = (box[2] & ~15) | 1
}

active proctype owner() {
end:
  do
  /* ---- serving ---- */
  /* A request is logged when something begins with it: earlier would differ for nobody. */
#define BEGINS_MIRRORED (a == up && mirror && !rdma && window && there == head_a && issued < WRITES)
#define BEGINS_ALONE (a == up && !mirror && flushing == 0 && issued < WRITES && head_a <= position + 1)
  :: d_step { BEGINS_MIRRORED -> append_a(OTHER); send() }
  :: d_step { BEGINS_MIRRORED && !watched -> append_a(WATCHED); send() }
  :: d_step { BEGINS_ALONE -> append_a(OTHER); acknowledge() }
  :: d_step { BEGINS_ALONE && !watched -> append_a(WATCHED); acknowledge() }
  :: d_step { a == up && mirror && !rdma && there < head_a && window -> send() }
#ifdef WITHOUT_FULL_RESYNC
  :: d_step { a == up && mirror == 1 && window -> sealed = epoch_a; mirror = 2; there = head_a; acknowledge() }
#else
  :: d_step { a == up && mirror == 1 && !rdma && there >= head_a && window ->
       sealed = epoch_a; mirror = 2; acknowledge() }
#endif
  :: d_step { a == up && mirror && (!window || b == off) -> mirror = 0; there = 0; late }
  :: d_step { a == up && mirror && cuts < CUTS -> cuts++; mirror = 0; there = 0; late }
  :: d_step { a == up && mirror && cuts < CUTS && rdma && window -> cuts++; mirror = 0; there = 0; land_rdma(); no_rdma }
  :: d_step { a == up && mirror == 0 && b == up && !holds_b ->
       mirror = 1; there = position; window = 1; no_rdma } /* a new endpoint at B */
  :: d_step { a == up && wanted == NONE && DESIRED != marked && marking == 0 && ALL_OF_A && MAY_MARK(DESIRED) ->
       assert(GEN(BEST) < 15);
       wanted = DESIRED; marking = 7; mark = BOX(GEN(BEST) + 1, epoch_a, 0, wanted, 0) }
  :: d_step { a == up && wanted != NONE && marking == 0 && !aborted ->
       marked = wanted; wanted = NONE; mark = 0; count_anew(); acknowledge() }

  /* ---- consistency point ---- */
  :: d_step { (a == up || a == replaying) && position < head_a && flushing == 0 && ALL_OF_A && !aborted ->
       flushing = 4; covers = head_a }

  /* ---- fenced: any refused or aborted command of a serving node ---- */
  :: d_step { (a == up || a == replaying || a == marking_claim) && (!ALL_OF_A || aborted) -> end_a(); late }
  :: d_step { (a == up || a == replaying || a == marking_claim) && (!ALL_OF_A || aborted) && rdma && window ->
       end_a(); land_rdma(); no_rdma }

  /* ---- boot ---- */
  :: d_step { a == off && !ANY_EXCLUSIVE && !TAKEN(BEST) -> seen = BEST; epoch_a = EPOCH(seen) + 1; a = claim_0 }
  :: d_step { a == claim_0 && HELD(0) != BY_B -> HOLD(0, BY_A); abort_on(0); aborted = 0; a = claim_1 }
  :: d_step { a == claim_1 && HELD(1) != BY_B -> HOLD(1, BY_A); abort_on(1); aborted = 0; a = claim_2 }
  :: d_step { a == claim_2 && HELD(2) != BY_B -> HOLD(2, BY_A); abort_on(2); aborted = 0; a = claim_again }
#ifdef WITHOUT_STAND_DOWN
  :: d_step { a == claim_0 && HELD(0) == BY_B -> HOLD(0, BY_A); a = claim_1 }
  :: d_step { a == claim_1 && HELD(1) == BY_B -> HOLD(1, BY_A); a = claim_2 }
  :: d_step { a == claim_2 && HELD(2) == BY_B -> HOLD(2, BY_A); a = claim_again }
#else
  :: d_step { a == claim_0 && HELD(0) == BY_B -> end_a() }
  :: d_step { a == claim_1 && HELD(1) == BY_B -> end_a() }
  :: d_step { a == claim_2 && HELD(2) == BY_B -> end_a() }
#endif
  :: d_step { a == claim_again && HELD(0) == BY_A -> a = rereading }
  :: d_step { a == claim_again && HELD(0) != BY_A -> end_a() }
  :: d_step { a == rereading && !ANY_EXCLUSIVE && !TAKEN(BEST) && EPOCH(BEST) == EPOCH(seen) && ALL_OF_A ->
       seen = BEST; marking = 7;
       assert(GEN(seen) < 15 && epoch_a < 8); /* or the fields of this model are too small */
       mark = BOX(GEN(seen) + 1, epoch_a, 0, MODE(seen), AT_B(seen)); a = marking_claim }
  :: d_step { a == rereading && (!ALL_OF_A || TAKEN(BEST) || EPOCH(BEST) != EPOCH(seen)) -> end_a() }
  :: d_step { a == marking_claim && marking == 0 && !aborted ->
       mark = 0; covers = 0;
       head_a = position;
       if :: MODE(seen) == WRITE_THROUGH
          :: else -> do :: head_a < 3 && ring_a[head_a] -> head_a++ :: else -> break od
       fi;
       i = head_a; do :: i < 3 -> ring_a[i] = 0; i++ :: else -> break od; i = 0;
       seen = 0; answered = position;
       a = replaying }
  :: d_step { a == replaying && position >= head_a && flushing == 0 && MAJORITY_OF_A -> /* the first heartbeat */
       must(I2_one_node_answers, b != serving);
       check_nothing_lost(ring_a[i], position, head_a);
       answered = position; covers = 0; lease = 1; a = up; acknowledge() }

  /* ---- B is dead: A takes its identity, and gives it back ---- */
  :: d_step { a == up && !holds_b && b == off && ALL_OF_A -> holds_b = 1; acknowledge() }
  :: d_step { a == up && holds_b && b == off -> holds_b = 0; b = leftovers }

  :: d_step { a != off && crashes < CRASHES -> crashes++; end_a(); late }
  :: d_step { a != off && crashes < CRASHES && rdma && window -> crashes++; end_a(); land_rdma(); no_rdma }
  od
}

/* Whether the acknowledged writes that a mailbox tells of can be had by B. */
#ifdef WITHOUT_HONOURING_MARKS
#define POSSIBLE(x) 1
#else
#define POSSIBLE(x) (MODE(x) == WRITE_THROUGH || MODE(x) == MIRRORED || AT_B(x))
#endif

inline fence(d, next) {
  d_step {
    HOLD(d, BY_B);
#ifndef WITHOUT_ABORT
    abort_on(d);
#endif
    b = next
  }
}

inline write_mark(d, next) {
  d_step {
    if
    :: HELD(d) == BY_B ->
       assert(GEN(confirmed) < 15 && EPOCH(confirmed) < 7);
       must(I5_epochs_never_decrease, EPOCH(confirmed) + 1 > EPOCH(box[d]) || (EPOCH(confirmed) + 1 == EPOCH(box[d]) && TAKEN(box[d])));
       box[d] = BOX(GEN(confirmed) + 1, EPOCH(confirmed) + 1, 1, MODE(confirmed), AT_B(confirmed));
       if :: next == awaiting_lease -> count_anew() :: else fi;
       b = next
    :: else -> end_b()
    fi
  }
}

inline end_b() {
  b = off; checked = 0; confirmed = 0; known_stopped = 0; local_b = 0; answered_b = 0; head_b = 0; window = 0;
  no_rdma
}

inline acknowledge_b() {
  n = (local_b -> head_b : position);
  acknowledge_records(ring_b[i], answered_b, n); answered_b = n; n = 0
}

active proctype survivor() {
end:
  do
  :: d_step { b == off && !holds_b -> b = leftovers }
  :: d_step { b == leftovers && !ANY_EXCLUSIVE -> b = up }
  :: d_step { b == leftovers && ANY_EXCLUSIVE && TAKEN(BEST) -> b = checking }
  :: d_step { b == leftovers && ANY_EXCLUSIVE && !TAKEN(BEST) -> b = back_0 }

  /* Checking changes nothing. */
  :: d_step { b == up && !holds_b && tries < TRIES && POSSIBLE(BEST) -> tries++; checked = BEST; b = closing }
  :: d_step { b == up && !holds_b && tries < TRIES && POSSIBLE(BEST) && a == off ->
       tries++; checked = BEST; known_stopped = 1; b = closing }
  :: d_step { b == checking -> checked = BEST; b = closing }
  :: d_step { b == closing ->
#ifndef WITHOUT_REVOKING
       window = 0;
       no_rdma;
#endif
       b = fence_0 }
  :: b == fence_0 -> fence(0, fence_1)
  :: b == fence_1 -> fence(1, fence_2)
#ifdef WITHOUT_FENCING_ALL
  :: d_step { b == fence_2 -> b = fence_again }
#else
  :: b == fence_2 -> fence(2, fence_again)
#endif
  :: d_step { b == fence_again && HELD(0) == BY_B -> b = confirming }
  :: d_step { b == fence_again && HELD(0) != BY_B -> b = back_0 }
  :: d_step { b == confirming ->
#ifdef WITHOUT_REREADING
       confirmed = checked;
#else
       confirmed = BEST;
#endif
#ifndef WITHOUT_FRESH_STOP
       if :: EPOCH(confirmed) != EPOCH(checked) -> known_stopped = 0 :: else fi;
#endif
#ifdef WITHOUT_LEASE_ON_RESUME
       if :: TAKEN(confirmed) -> known_stopped = 1 :: else fi; /* "only we can have served since our mark" */
#endif
       checked = 0;
       if :: POSSIBLE(confirmed) -> b = mark_0 :: else -> b = back_0; confirmed = 0; known_stopped = 0 fi }
#ifdef WITHOUT_MARK_BEFORE_SERVING
  :: d_step { b == mark_0 -> b = awaiting_lease }
#else
  :: b == mark_0 -> write_mark(0, mark_1)
#ifdef WITHOUT_FENCING_ALL
  :: b == mark_1 -> write_mark(1, awaiting_lease)
#else
  :: b == mark_1 -> write_mark(1, mark_2)
  :: b == mark_2 -> write_mark(2, awaiting_lease)
#endif
#endif
#ifdef WITHOUT_AWAITING_LEASE
  :: d_step { b == awaiting_lease ->
#else
  :: d_step { b == awaiting_lease && (known_stopped || !lease) ->
#endif
       must(I2_one_node_answers, !lease);
#ifndef WITHOUT_FENCING_ALL
       must(I6_keys_of_the_serving_node_only, HELD(0) == BY_B && HELD(1) == BY_B && HELD(2) == BY_B);
#endif
       head_b = position;
       if :: MODE(confirmed) == WRITE_THROUGH || sealed < pool_epoch
          :: else -> do :: head_b < 3 && ring_b[head_b] -> head_b++ :: else -> break od
       fi;
       i = head_b; do :: i < 3 -> ring_b[i] = 0; i++ :: else -> break od; i = 0;
#ifdef WITHOUT_REPLAYING_AGAIN
       i = position; do :: i < head_b -> ring_b[i] = 0; i++ :: else -> break od; i = 0;
#endif
       known_stopped = 0; b = replaying }
  /* Replaying is idempotent, and in a consistency point before anything is served. */
  :: d_step { b == replaying ->
       check_nothing_lost(ring_b[i], position, head_b);
       into_pool(ring_b[i], head_b);
       answered_b = head_b; pool_epoch = EPOCH(confirmed) + 1; age_seal(); confirmed = 0; known_stopped = 0;
       must(I2_one_node_answers, a != up || !lease);
       forget_ring_a();
       b = serving }

  /* ---- serving ---- */
#define BEGINS_AT_B (b == serving && issued < WRITES && head_b <= position + 1)
  :: d_step { BEGINS_AT_B -> issue(ring_b[head_b], OTHER); head_b++; acknowledge_b() }
  :: d_step { BEGINS_AT_B && !watched -> issue(ring_b[head_b], WATCHED); head_b++; acknowledge_b() }
  :: d_step { b == serving && !local_b ->
       local_b = 1; sealed = EPOCH(box[0]);
       box[0] = BOX(GEN(box[0]) + 1, sealed, 1, LOCAL, 1); box[1] = box[0]; box[2] = box[0]; count_anew();
       acknowledge_b() }
  :: d_step { b == serving && position < head_b -> into_pool(ring_b[i], head_b); acknowledge_b() }

  /* ---- handing back what is not marked ---- */
  :: d_step { b == back_0 -> if :: HELD(0) == BY_B -> HOLD(0, BACK) :: else fi; b = back_1 }
  :: d_step { b == back_1 -> if :: HELD(1) == BY_B -> HOLD(1, BACK) :: else fi; b = back_2 }
  :: d_step { b == back_2 -> if :: HELD(2) == BY_B -> HOLD(2, BACK) :: else fi; b = up; confirmed = 0; checked = 0; known_stopped = 0 }

  :: d_step { b == fence_0 && !TAKEN(BEST) -> b = up; checked = 0; known_stopped = 0 } /* the log is damaged: refused */
  :: d_step { b != off && crashes < CRASHES -> crashes++; end_b() }
  od
}

inline land(d) {
  if :: marking & (1 << d) ->
       must(I5_epochs_never_decrease, EPOCH(mark) >= EPOCH(box[d]) && GEN(mark) > GEN(box[d]));
       must(I3_no_older_write_lands, !TAKEN(BEST));
       box[d] = mark; marking = marking & ~(1 << d)
     :: else
  fi
}

inline drop_mark() { if :: marking == 0 && a != up && a != marking_claim -> mark = 0 :: else fi }

active proctype world() {
  do
  /* Copies of a mark land in the order that leaves most to be aborted: readers take the best, so others add nothing. */
  :: d_step { marking & 6 -> land(1); land(2); drop_mark() }
  :: d_step { marking == 1 -> land(0); drop_mark() }
    :: d_step { flushing == 4 ->
       must(I3_no_older_write_lands, b != serving);
       if :: (a == up || a == replaying) && HELD(0) == BY_A && !aborted -> flushing = 1
          :: else -> flushing = 0; covers = 0
       fi }
  :: d_step { flushing & 1 -> /* the superblock */
       must(I3_no_older_write_lands, b != serving);
       flushing = 0; into_pool(ring_a[i], covers);
       covers = 0; pool_epoch = EPOCH(BEST); age_seal();
       if :: a == up -> acknowledge() :: else fi }
  :: d_step { rdma && window ->
       land_rdma();
       if :: a == up && mirror -> there = (rdma_to > position -> rdma_to : position); acknowledge() :: else fi; /* the completion */
       no_rdma }
  :: d_step { lease && b == awaiting_lease -> lease = 0 } /* time passes; it matters here only */
  :: atomic { timeout ->
       must(I18_served_at_last, a == up || b == serving);
       must(L9_acknowledged_at_last, (a == up && answered == head_a) || (b == serving && answered_b == head_b));
       break }
  od
}
