/* Bring-up of the interconnect: docs/protocols/interconnect.md. Both nodes dial each other, read, write, read, write, tell
   their clients, say ready; they restart, connections break unseen, and old frames and greetings lie about.

   Bounds: RESTARTS of either node at any step; CUTS, which break both connections without telling anybody; PAUSES of the
   partner while an operation is under way (it ends by its deadline, and may have happened); LIES, a write that completes and
   has not happened. Disks and writes do not
   concern this model. Session numbers are taken anew, so dials need no bound.
   Left out: the handshake before a connection counts as one (its secret, versions), and the rests between dials. */

/* check: */
/* check small: -DRESTARTS=1 */
/* cycles: -DRESTARTS=1 -DLIES=0: no run goes on for ever, but for waiting for a partner that publishes nothing */
/* without SESSION: `ready` counts for whichever connection there is */
/* without SAYING_AGAIN: `ready` is said once, not once for each session */
/* without DEADLINE: a connection that broke unseen is kept */
/* without BOOT_IN_STATE: the structure of another boot is taken for the partner's */
/* without GREETING: client information counts without the greeting that goes before it */

#ifndef RESTARTS
#define RESTARTS 2
#endif
#ifndef CUTS
#define CUTS 1
#endif
#ifndef PAUSES
#define PAUSES 1
#endif
#ifndef LIES
#define LIES 1
#endif

mtype:inv = { interconnect_3_the_structure_is_of_this_boot, interconnect_4_ready_means_both_directions_work,
              interconnect_4_ready_means_both_know_each_other, interconnect_5_ready_names_the_session, interconnect_6_one_boot_on_both_connections,
              interconnect_7_no_half_connection_for_ever };
#define must(name, condition) assert((condition) || !name)

mtype = { resting, dialing, accepted, reading_1, writing_1, reading_2, writing_2, waiting, informed,
          absent, greeted, known };
/* Of each node: its boot, its published structure, the connection it dialled, and the one it accepted. */
typedef Node {
  byte boot; byte shown; /* the boot of its structure, 0: none */
  mtype out; byte session; byte peer; byte said_for; bit broken; /* `broken`: nobody has been told */
  mtype in; byte in_session; byte in_peer; byte ready_for;
  /* its greeting region, as the partner wrote it */
  byte step; byte from_session; byte from_boot; byte seen;
  /* frames on the connection that it dialled */
  bit information; byte ready
}
Node n[2];
byte restarts, cuts, pauses, lies;
hidden byte s;

#define RUNS(i) (n[(i)].out == reading_1 || n[(i)].out == writing_1 || n[(i)].out == reading_2 || n[(i)].out == writing_2 || \
                 n[(i)].out == waiting || n[(i)].out == informed)
#define WHOLE(i) (RUNS(i) && !n[(i)].broken && n[1 - (i)].in != absent && n[1 - (i)].in_session == n[(i)].session)
#define READY(i) (n[(i)].out == informed && n[(i)].in == known && n[(i)].ready_for && READY_SESSION(i))
#ifdef WITHOUT_SESSION
#define READY_SESSION(i) 1
#else
#define READY_SESSION(i) (n[(i)].ready_for == n[(i)].session)
#endif

#define USED(x) (n[i].session == x || n[1 - i].in_session == x || n[1 - i].ready_for == x || n[i].ready_for == x || \
                 n[1 - i].said_for == x || n[1 - i].from_session == x || n[1 - i].ready == x)

inline end_out(next) {
  n[i].out = next; n[i].session = 0; n[i].peer = 0; n[i].said_for = 0; n[i].broken = 0; n[i].information = 0; n[i].ready = 0
}
inline end_in(k) { n[k].in = absent; n[k].in_session = 0; n[k].in_peer = 0; n[k].ready_for = 0 }

/* What must hold whenever a node calls the link ready. */
inline settle(k) {
  if :: READY(k) ->
       must(interconnect_6_one_boot_on_both_connections, n[k].peer == n[k].in_peer);
       must(interconnect_5_ready_names_the_session, n[k].ready_for == n[k].session);
       must(interconnect_4_ready_means_both_know_each_other,
            n[1 - k].boot != n[k].peer || !WHOLE(k) || n[1 - k].in == known);
       must(interconnect_4_ready_means_both_directions_work, n[k].step == 2 && n[k].from_session == n[k].in_session);
       must(interconnect_3_the_structure_is_of_this_boot, n[1 - k].boot != n[k].peer || n[1 - k].shown == n[k].peer)
     :: else
  fi
}

#ifdef WITHOUT_BOOT_IN_STATE
#define SAME_BOOT 1
#else
#define SAME_BOOT (n[1 - i].shown == n[i].peer)
#endif
#ifdef WITHOUT_GREETING
#define GREETED(i) 1
#else
#define GREETED(i) (n[(i)].step == 2 && n[(i)].from_session == n[(i)].in_session && n[(i)].from_boot == n[(i)].in_peer && \
                    n[(i)].seen == n[(i)].boot)
#endif
#ifdef WITHOUT_SAYING_AGAIN
#define NEWS(i) (n[(i)].said_for == 0)
#else
#define NEWS(i) (n[(i)].said_for != n[(i)].in_session)
#endif

proctype node(byte i) {
end:
  do
  :: d_step { n[i].shown != n[i].boot -> n[i].shown = n[i].boot }
  :: d_step { n[i].out == resting -> end_out(dialing) }

  /* The partner admits us; only then do we hear of it. */
  :: d_step { n[i].out == dialing ->
       s = 1; do :: USED(s) -> s++ :: else -> break od;
       end_out(accepted); n[i].session = s; n[i].peer = n[1 - i].boot; s = 0;
       end_in(1 - i); n[1 - i].in = greeted; n[1 - i].in_session = n[i].session; n[1 - i].in_peer = n[i].boot;
       if :: RUNS(1 - i) && n[1 - i].peer != n[i].boot ->
            n[1 - i].out = dialing; n[1 - i].session = 0; n[1 - i].peer = 0; n[1 - i].said_for = 0; n[1 - i].broken = 0;
            n[1 - i].information = 0; n[1 - i].ready = 0
          :: else
       fi }
  :: d_step { n[i].out == accepted ->
       n[i].out = reading_1;
       if :: n[i].in != absent && n[i].in_peer != n[i].peer -> end_in(i) :: else fi }

  :: d_step { (n[i].out == reading_1 || n[i].out == reading_2) && WHOLE(i) ->
       if
       :: n[1 - i].shown && SAME_BOOT -> n[i].out = (n[i].out == reading_1 -> writing_1 : writing_2)
       :: else -> n[i].out = waiting
       fi }
  :: n[i].out == waiting ->
progress:
       d_step { if :: n[i].out == waiting -> n[i].out = reading_1 :: else fi }
  :: d_step { (n[i].out == writing_1 || n[i].out == writing_2) && WHOLE(i) ->
       n[1 - i].step = (n[i].out == writing_1 -> 1 : 2); n[1 - i].from_session = n[i].session;
       n[1 - i].from_boot = n[i].boot; n[1 - i].seen = n[i].peer;
       if :: n[i].out == writing_1 -> n[i].out = reading_2 :: else -> n[i].out = informed; n[i].information = 1 fi;
       settle(i) }

  :: d_step { n[i].out == writing_2 && WHOLE(i) && lies < LIES -> lies++; n[i].out = informed; n[i].information = 1; settle(i) }

  /* Frames of the partner, in order. */
  :: d_step { n[1 - i].information && WHOLE(1 - i) ->
       n[1 - i].information = 0;
       if
       :: n[i].in == known
       :: n[i].in == greeted && GREETED(i) -> n[i].in = known
       :: else -> end_in(i)
       fi;
       settle(i) }
  :: d_step { n[1 - i].ready && !n[1 - i].information && WHOLE(1 - i) ->
       if :: n[i].in == known -> n[i].ready_for = n[1 - i].ready :: else -> end_in(i) fi;
       n[1 - i].ready = 0;
       settle(i) }
  :: d_step { n[i].out == informed && n[i].in == known && NEWS(i) && n[i].ready == 0 ->
       n[i].said_for = n[i].in_session; n[i].ready = n[i].in_session }

  /* Losses are seen, or their deadline passes. */
#ifndef WITHOUT_DEADLINE
  :: d_step { RUNS(i) && !WHOLE(i) -> end_out(resting) }
  :: d_step { n[i].in != absent && !(n[1 - i].session == n[i].in_session && !n[1 - i].broken) -> end_in(i) }
#else
  :: d_step { RUNS(i) && !WHOLE(i) && !n[i].broken -> end_out(resting) }
  :: d_step { n[i].in != absent && n[1 - i].session != n[i].in_session -> end_in(i) }
#endif
  :: d_step { RUNS(i) && pauses < PAUSES -> pauses++; end_out(resting) }
  :: d_step { (n[i].out == writing_1 || n[i].out == writing_2) && WHOLE(i) && pauses < PAUSES ->
       pauses++;
       n[1 - i].step = (n[i].out == writing_1 -> 1 : 2); n[1 - i].from_session = n[i].session;
       n[1 - i].from_boot = n[i].boot; n[1 - i].seen = n[i].peer;
       end_out(resting) }

  :: d_step { restarts < RESTARTS ->
       restarts++; n[i].boot++; end_in(i); end_out(dialing);
       n[i].step = 0; n[i].from_session = 0; n[i].from_boot = 0; n[i].seen = 0 }
  od
}

active proctype world() {
end:
  do
  :: d_step { cuts < CUTS -> cuts++; n[0].broken = RUNS(0); n[1].broken = RUNS(1) }
  :: atomic { timeout -> must(interconnect_7_no_half_connection_for_ever, READY(0) && READY(1)); break }
  od
}

init { d_step {
  n[0].out = dialing; n[1].out = dialing; n[0].in = absent; n[1].in = absent; n[0].boot = 1; n[1].boot = 1 };
  atomic { run node(0); run node(1) } }
